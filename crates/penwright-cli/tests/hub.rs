//! Every command takes a hub's id where it takes a run: fetched from a hub on loopback once, then from the cache.

#[allow(dead_code)] // the library's tests use the rest
#[path = "../../penwright/tests/hub/server.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Output};

use server::Hub;

/// The program, seeing this hub and this cache and nothing else of the world.
fn penwright(hub: &Hub, home: &Path, offline: bool, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penwright"));
    for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    command
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_HOME", home)
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" });
    command.args(arguments).current_dir(home).output().unwrap()
}

#[test]
fn a_model_of_the_hub_is_used_without_any_training() {
    let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../penwright/tests/fixtures/published/plain");
    let names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let contents = names.map(|name| std::fs::read(plain.join(name)).unwrap());
    let files: Vec<_> = names.into_iter().zip(contents.iter().map(Vec::as_slice)).collect();
    let (hub, home) = (Hub::new(&files), tempfile::tempdir().unwrap());
    let lines = "The bell rang and the sea was far. ".repeat(30);
    std::fs::write(home.path().join("text.txt"), lines).unwrap();

    let before = penwright(&hub, home.path(), true, &["generate", "gpt2"]);
    let said = String::from_utf8(before.stderr).unwrap();
    assert!(before.status.code() == Some(1) && said.contains("HF_HUB_OFFLINE") && said.lines().count() == 1, "{said}");

    let generate = ["generate", "gpt2", "--prompt", "The bell", "--tokens", "5", "--greedy", "--json"];
    let written = penwright(&hub, home.path(), false, &generate);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    assert!(hub.take_seen().iter().any(|seen| seen.storage), "the weights came from the hub's storage");
    let local = plain.display().to_string();
    let [text, here] = [
        &written.stdout,
        &penwright(
            &hub,
            home.path(),
            true,
            &["generate", &local, "--prompt", "The bell", "--tokens", "5", "--greedy", "--json"],
        )
        .stdout,
    ]
    .map(|json| -> serde_json::Value { serde_json::from_slice(json).unwrap() });
    assert_eq!(text["samples"], here["samples"]);

    let commands: [&[&str]; 8] = [
        &["eval", "gpt2", "text.txt", "--json"],
        &["score", "gpt2", "text.txt", "--json"],
        &["compare", "gpt2", "gpt2", "--text", "text.txt", "--sample-tokens", "4", "--json"],
        &["inspect", "gpt2", "--json"],
        &["tokenize", "gpt2", "The bell"],
        &[
            "train",
            "text.txt",
            "--from",
            "gpt2",
            "--lora",
            "2",
            "--steps",
            "2",
            "--batch",
            "1",
            "--context",
            "8",
            "--out",
            "tuned",
        ],
        &["generate", "tuned", "--tokens", "3"],
        &["export", "gpt2", "--to", "gguf", "out.gguf", "--type", "f32"],
    ];
    for arguments in commands {
        let done = penwright(&hub, home.path(), true, arguments);
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    assert!(hub.take_seen().is_empty(), "nothing is asked for when offline");
    let config = std::fs::read_to_string(home.path().join("tuned/adapter_config.json")).unwrap();
    assert!(config.contains(r#""base_model_name_or_path": "gpt2""#), "{config}");
}
