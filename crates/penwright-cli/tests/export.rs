//! `penwright export` from the outside: what it prints and how it ends.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn penwright(dir: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penwright")).current_dir(dir).args(args.split(' ')).output().unwrap()
}

#[test]
fn exports_and_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..400).map(|n| format!("The bell rang {} times in tower {n}.\n", n * n % 13)).collect();
    std::fs::write(dir.path().join("text.txt"), lines).unwrap();
    let small = "--level char --layers 1 --width 16 --batch 2 --context 8 --steps 4 -q";
    for (out, model) in [("gpt2", "gpt2 --heads 2"), ("lstm", "lstm"), ("ngram", "ngram")] {
        let small = if out == "ngram" { "--level char -q" } else { small };
        let output = penwright(dir.path(), &format!("train text.txt --out {out} --model {model} {small}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    let output = penwright(dir.path(), "export gpt2 --to hf book --json");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["path"], &result["format"]), (&"book".into(), &"hf".into()));
    for file in result["files"].as_array().unwrap() {
        let path = dir.path().join("book").join(file["name"].as_str().unwrap());
        assert_eq!(file["bytes"].as_u64(), Some(path.metadata().unwrap().len()));
    }
    assert!(
        String::from_utf8_lossy(&penwright(dir.path(), "export lstm --to pytorch torch").stdout).contains("model.py")
    );
    assert!(penwright(dir.path(), "export gpt2 --to hf book --force --dtype bf16").status.success());

    for (args, code, words) in [
        ("export gpt2 --to hf book", 1, "--force"),
        ("export gpt2 --to hf gpt2 --force", 1, "run itself"),
        ("export gpt2 --to hf lstm --force", 1, "metrics.jsonl"),
        ("export gpt2 --to hf .", 1, "holds"),
        ("export nowhere --to hf new", 1, "nowhere"),
        ("export gpt2 --to pytorch new", 2, "--to hf"),
        ("export lstm --to hf new", 2, "--to pytorch"),
        ("export lstm --to gguf new", 2, "--to pytorch"),
        ("export ngram --to pytorch new", 2, "n-gram"),
        ("export gpt2 --to hf new --type q8_0", 2, "--dtype"),
        ("export gpt2 --to gguf new --dtype f32", 2, "--type"),
        ("export lstm --to pytorch new --dtype f32", 2, "--dtype"),
    ] {
        let output = penwright(dir.path(), args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args}: {message}");
        assert_eq!(message.trim_end().lines().count(), 1, "{args}: {message}");
        assert!(message.contains(words) && output.stdout.is_empty(), "{args}: {message}");
    }
    assert!(!dir.path().join("new").exists());
}
