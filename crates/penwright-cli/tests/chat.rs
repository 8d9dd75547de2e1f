//! `penwright chat` and `penwright generate --summarize` as a person or a program runs them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penwright"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn penwright(args: &[&str], input: &str) -> Output {
    let mut child = command(args).spawn().unwrap();
    // A command that fails early closes its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// A run that has seen nothing but a talk of two.
fn train(dir: &Path, model: &str) -> PathBuf {
    let (text, run) = (dir.join("text.txt"), dir.join(model));
    let lines: String = (0..300).map(|n| format!("Ann: Is it {n}?\nHale: It is {n}.\n")).collect();
    std::fs::write(&text, lines).unwrap();
    let (text, out) = (text.to_str().unwrap(), run.to_str().unwrap());
    let shape = match model {
        "ngram" => "--order 6 -q",
        "lstm" => "--layers 1 --width 48 --batch 4 --context 32 --steps 250 --sample-every 0 --lr 1e-2 -q",
        _ => "--layers 1 --width 32 --heads 2 --batch 4 --context 64 --steps 150 --sample-every 0 --lr 1e-2 -q",
    };
    let args = [&["train", text, "--out", out, "--model", model, "--level", "char"][..]];
    let args = [args.concat(), shape.split(' ').collect()].concat();
    let trained = penwright(&args, "");
    assert!(trained.status.success(), "{}", stderr(&trained));
    run
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_program_talks_with_every_model() {
    let dir = tempfile::tempdir().unwrap();
    for model in ["ngram", "lstm", "gpt2"] {
        let run = train(dir.path(), model);
        let names = ["chat", run.to_str().unwrap(), "--user", "Ann", "--bot", "Hale", "--tokens", "40"];
        let talk = |flags: &[&str], input: &str| penwright(&[&names[..], flags].concat(), input);
        let input = "Is it 7?\n\nIs it 12?\n/undo\nIs it\\\n";
        let replies = objects(&talk(&["--json"], input));
        assert_eq!(replies.len(), 5, "each line is a turn and has one reply");
        for reply in &replies {
            let keys: Vec<_> = reply.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["content", "finish_reason", "role", "tokens"]);
            let content = reply["content"].as_str().unwrap();
            assert!(reply["role"] == "assistant" && !content.contains("\nAnn:") && !content.contains("\nHale:"));
            assert!(reply["tokens"].as_u64().unwrap() <= 40);
        }
        let ended = replies.iter().filter(|reply| reply["finish_reason"] == "stop").count();
        assert!(ended > 0, "{model} has learned that Ann answers: {replies:?}");
        assert_eq!(objects(&talk(&["--json", "--threads", "1"], input)), replies);
        assert_ne!(objects(&talk(&["--json", "--seed", "5", "--temperature", "1.3"], input)), replies);
        // As text, the same replies.
        let plain = talk(&[], "Is it 7?\n");
        assert_eq!(stdout(&plain), format!("{}\n", replies[0]["content"].as_str().unwrap()));
        assert!(plain.stderr.is_empty(), "{}", stderr(&plain));
        let first_two = talk(&["--json", "--top-k", "3", "--top-p", "0.9", "--min-p", "0.1"], "a\nb");
        assert_eq!(objects(&first_two).len(), 2);
        objects(&talk(&["--json", "--repetition-penalty", "1.2", "--stop", "is", "--system", "So."], "a\n"));
    }
}

#[test]
fn history_and_commands() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path(), "lstm");
    let (history, copy) = (dir.path().join("talk.jsonl"), dir.path().join("copy.jsonl"));
    let talk = |input: &str| {
        let args = ["chat", run.to_str().unwrap(), "--history", history.to_str().unwrap(), "--tokens", "30"];
        let output = penwright(&args, input);
        assert!(output.status.success(), "{}", stderr(&output));
        (stdout(&output).to_string(), stderr(&output))
    };
    let turns = |path: &Path| -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        let turn = |line| serde_json::from_str(line).map(|v: Value| (v["role"].clone(), v["content"].clone())).unwrap();
        let of = |value: Value| value.as_str().unwrap().to_string();
        text.lines().map(turn).map(|(role, content)| (of(role), of(content))).collect()
    };
    let (first, _) = talk("Is it 1?\nIs it\\\n2?\n");
    let before = turns(&history);
    assert_eq!((before.len(), before[0].1.as_str(), before[2].1.as_str()), (4, "Is it 1?", "Is it\n2?"));
    assert_eq!(first, format!("{}\n{}\n", before[1].1, before[3].1));
    let (_, said) = talk("/undo\n/undo\n/undo\n/nonsense\n/help\n/retry\n");
    for words in ["taken back: Is it\n", "nothing to take back", "/nonsense", "/retry", "no reply yet"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(turns(&history).is_empty());
    // Said again, the same; tried again, something else, in its place.
    assert_eq!(talk("Is it 1?\nIs it\\\n2?\n/quit\nnever said\n").0, first);
    assert_eq!(turns(&history), before);
    let retried = talk(&format!("/retry\n/system Two talk.\n//slash\n/save {}\n", copy.display())).0;
    let after = turns(&history);
    assert!(retried.starts_with(&format!("{}\n", after[4].1)), "{retried} {after:?}");
    assert_eq!((after.len(), after[0].1.as_str(), after[5].1.as_str()), (7, "Two talk.", "/slash"));
    assert_eq!(turns(&copy), after);
}

#[test]
fn markers_by_flag_template_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path(), "ngram");
    let path = run.to_str().unwrap();
    let kind = |flags: &[&str]| {
        let output = penwright(&[&["chat", path, "-v", "--tokens", "5"][..], flags].concat(), "a\n");
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(kind(&[]).contains("turns: names\n"));
    let jinja = run.join("chat_template.jinja");
    std::fs::write(&jinja, "{{ '<|im_start|>' + m['role'] }}").unwrap();
    assert!(kind(&[]).contains("turns: ChatML, from the chat template\n"));
    assert!(kind(&["--markers", "names"]).contains("turns: names\n"));
    assert!(kind(&["--user-marker", "### A:\\n", "--end-marker", "\\n\\n##"]).contains("turns: the given markers\n"));
    assert!(kind(&["--markers", "eot"]).contains("end-of-text"));
    let template = dir.path().join("template");
    std::fs::write(&template, "### Human: {{ c }}\n### Assistant: ").unwrap();
    assert!(kind(&["--markers", template.to_str().unwrap()]).contains("turns: names, from the chat template\n"));
    std::fs::write(&jinja, "[INST]{{ m['role'] }}[/INST]").unwrap();
    assert!(kind(&[]).contains("turns: names\n"));
    std::fs::remove_file(&jinja).unwrap();
    let config = run.join("tokenizer_config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    json["chat_template"] = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}".into();
    std::fs::write(&config, json.to_string()).unwrap();
    assert!(kind(&[]).contains("turns that end in end-of-text, from the chat template\n"));

    let broken = dir.path().join("broken.jsonl");
    std::fs::write(&broken, "{\"role\":\"user\",\"content\":\"a\"}\n{\"role\":\"cook\",\"content\":\"b\"}\n").unwrap();
    for (flags, code, words) in [
        (&["--markers", "nowhere"][..], 1, "nowhere"),
        (&["--markers", jinja.to_str().unwrap()], 1, "check the path"),
        (&["--markers", broken.to_str().unwrap()], 1, "no chat template"),
        (&["--markers", "chatml", "--user-marker", "x"], 2, "cannot be used with"),
        (&["--user", ""], 2, "--user: "),
        (&["--bot", "User"], 2, "--bot: "),
        (&["--end-marker", " "], 2, "--end-marker: "),
        (&["--tokens", "0"], 2, "--tokens: "),
        (&["--stop", ""], 2, "--stop: "),
        (&["--temperature", "-1"], 2, "--temperature: "),
        (&["--system", "a", "--system-file", "b"], 2, "cannot be used with"),
        (&["--system-file", "-"], 2, "standard input"),
        (&["--history", broken.to_str().unwrap()], 1, "line 2"),
    ] {
        let output = penwright(&[&["chat", path][..], flags].concat(), "a\n");
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {message}");
        assert!(message.contains(words) && output.stdout.is_empty(), "{flags:?}: {message}");
    }
}

/// Ctrl-C ends the reply; what was written is kept.
#[cfg(unix)]
#[test]
fn interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path(), "lstm");
    let history = dir.path().join("talk.jsonl");
    let mut child = command(&["chat", run.to_str().unwrap(), "--tokens", "100000000", "--user", "Zeno"])
        .args(["--history", history.to_str().unwrap()])
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"Is it 1?\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let kept = std::fs::read_to_string(&history).unwrap();
    let reply: Value = serde_json::from_str(kept.lines().nth(1).unwrap()).unwrap();
    assert!(reply["content"].as_str().unwrap().starts_with(line.trim()), "{kept}");
    // At the prompt it leaves at once.
    let mut child = command(&["chat", run.to_str().unwrap(), "--tokens", "3", "--json"]).spawn().unwrap();
    // Kept open: the end of its input would be another reason to leave.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"a\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn summaries() {
    let dir = tempfile::tempdir().unwrap();
    let article = dir.path().join("article.txt");
    std::fs::write(&article, "\u{feff}Ann: Is it 4?\r\nHale: It is 4.\r\n".repeat(9)).unwrap();
    for model in ["lstm", "gpt2"] {
        let run = train(dir.path(), model);
        let summarize = |flags: &str, input: &str| {
            let flags: Vec<&str> = flags.split_whitespace().collect();
            penwright(&[&["generate", run.to_str().unwrap(), "--summarize"][..], &flags].concat(), input)
        };
        let file = article.to_str().unwrap();
        let tokens = if model == "gpt2" { "--tokens 20" } else { "" };
        let whole = summarize(&format!("{file} --json {tokens}"), "");
        let result = objects(&whole).remove(0);
        let (text, written) = (result["samples"][0]["text"].as_str().unwrap(), &result["samples"][0]["tokens"]);
        assert_eq!(text, text.trim());
        assert!(written.as_u64().unwrap() <= 100);
        assert_eq!(stderr(&whole).contains("longer than the model can see"), model == "gpt2", "{}", stderr(&whole));
        let printed = summarize(&format!("{file} -q {tokens}"), "");
        assert_eq!((stdout(&printed), stderr(&printed).as_str()), (&*format!("{text}\n"), ""));
        // From standard input; one sentence is the first of three; another seed or temperature is another summary.
        let input = std::fs::read_to_string(&article).unwrap();
        let one = summarize(&format!("- --sentences 1 -q {tokens}"), &input);
        assert!(one.status.success() && text.starts_with(stdout(&one).trim_end()), "{one:?} {text}");
        let greedy = summarize(&format!("- --greedy {tokens} --samples 2 -q"), &input);
        let dashes = format!("\n{}\n", "-".repeat(40));
        let (a, b) = stdout(&greedy).trim_end().split_once(&dashes).unwrap();
        assert_eq!(a, b);
        for (flags, code, words) in [
            ("- --prompt x", 2, "cannot be used with"),
            ("- --words 3", 2, "cannot be used with"),
            ("- --interactive", 2, "cannot be used with"),
            ("- --tokens 0", 2, "--tokens: "),
            ("- --sentences 0", 2, "--sentences: "),
            ("nowhere.txt", 1, "nowhere.txt"),
            ("-", 1, "empty"),
        ] {
            let output = summarize(flags, "");
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(code), "{flags}: {message}");
            assert!(message.contains(words) && output.stdout.is_empty(), "{flags}: {message}");
        }
        if model == "gpt2" {
            let output = summarize("- --tokens 60", &input);
            assert_eq!(output.status.code(), Some(2));
            assert!(stderr(&output).contains("give fewer"), "{}", stderr(&output));
        }
    }
    let run = dir.path().join("lstm");
    let both = penwright(&["generate", run.to_str().unwrap(), "--tokens", "5", "--sentences", "2"], "");
    assert_eq!(both.status.code(), Some(2));
    assert!(stderr(&both).contains("--summarize"));
}
