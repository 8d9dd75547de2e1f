//! `penwright generate` as a person or a script runs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn penwright(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penwright"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that fails early closes its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn train(dir: &Path, model: &str) -> PathBuf {
    let (text, run) = (dir.join("text.txt"), dir.join(model));
    let lines: String = (0..300).map(|n| format!("The bell rang {} times. Ann went on.\n\n", n * n % 13)).collect();
    std::fs::write(&text, lines).unwrap();
    let (text, out) = (text.to_str().unwrap(), run.to_str().unwrap());
    let shape =
        "--level char --layers 1 --width 32 --batch 4 --context 32 --steps 60 --sample-every 0 --lr 1e-2 --heads 2 -q";
    let args = [&["train", text, "--out", out, "--model", model][..], &shape.split(' ').collect::<Vec<_>>()].concat();
    assert!(penwright(&args, "").status.success());
    run
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn every_option_of_generate() {
    let dir = tempfile::tempdir().unwrap();
    for model in ["gpt2", "lstm"] {
        let run = train(dir.path(), model);
        let run = run.to_str().unwrap();
        let generate = |flags: &str, input: &str| {
            penwright(&[&["generate", run][..], &flags.split_whitespace().collect::<Vec<_>>()].concat(), input)
        };
        let json = |flags: &str| -> Value {
            let output = generate(&format!("{flags} --json"), "The bell\n");
            assert!(output.status.success(), "{flags}: {}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).unwrap()
        };
        // The prompt by flag, by standard input; streamed, at once and as JSON: one text.
        let streamed = generate("--prompt-file - --tokens 60 --seed 3 --stats", "The bell\n");
        let text = stdout(&streamed).strip_prefix("The bell").unwrap().strip_suffix('\n').unwrap();
        assert!(String::from_utf8_lossy(&streamed.stderr).contains("tokens/s"));
        assert_eq!(generate("--prompt-file - --tokens 60 --seed 3 --no-stream", "The bell").stdout, streamed.stdout);
        let result = json("--prompt-file - --tokens 60 --seed 3 --samples 3 --threads 1");
        assert_eq!(result["samples"][0]["text"], text);
        assert_eq!(result["prompt_tokens"], 8);
        for key in ["prefill_tokens_per_s", "decode_tokens_per_s", "load_s"] {
            assert!(result[key].as_f64().unwrap() > 0.0, "{key}");
        }
        for sample in result["samples"].as_array().unwrap() {
            let keys: Vec<_> = sample.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["finish_reason", "log_prob", "text", "tokens"]);
        }
        let three = generate("--prompt-file - --tokens 60 --seed 3 --samples 3", "The bell");
        let dashes = format!("\n{}\n", "-".repeat(40));
        let texts: Vec<_> =
            stdout(&three).trim_end_matches('\n').split(&dashes).map(|t| &t["The bell".len()..]).collect();
        assert_eq!(texts.len(), 3);
        for (text, sample) in texts.iter().zip(result["samples"].as_array().unwrap()) {
            assert_eq!(text.trim_end_matches('\n'), sample["text"].as_str().unwrap().trim_end_matches('\n'));
        }
        let filters = "--temperature 0.9 --top-k 9 --top-p 0.9 --min-p 0.02 --typical 0.9 --repetition-penalty 1.1";
        json(&format!("{filters} --no-repeat-ngram 20 --precision f32 --stop xx --stop yy"));
        let written = json("--greedy --tokens 30 --prompt The --precision f32");
        assert_eq!(
            json("--greedy --tokens 30 --prompt The")["samples"],
            written["samples"],
            "auto is f32 in small models"
        );
        for precision in ["bf16", "int8", "int4"] {
            let alone = json(&format!("--tokens 40 --prompt The --seed 5 --precision {precision}"));
            assert_eq!(alone["samples"][0]["tokens"], 40);
            let beside =
                json(&format!("--tokens 40 --prompt The --seed 5 --samples 3 --threads 1 --precision {precision}"));
            assert_eq!(alone["samples"][0], beside["samples"][0], "{precision}");
        }
        let beams = json("--beams 4 --samples 2 --tokens 30 --stop q");
        assert!(beams["samples"][0]["log_prob"].as_f64().unwrap().is_finite());
        let greedy = json("--greedy --tokens 30");
        assert_eq!(json("--beams 1 --tokens 30")["samples"], greedy["samples"]);
        let words = json("--words 3 --greedy --prompt The");
        assert_eq!(words["samples"][0]["text"].as_str().unwrap().split_whitespace().count(), 3, "{words}");
        json("--sentences 1");
        json("--paragraphs 1");
        for (flags, code, words) in [
            ("--tokens 3 --words 2", 2, "cannot be used"),
            ("--sentences 3 --paragraphs 2", 2, "cannot be used"),
            ("--beams 3 --temperature 0.5", 2, "cannot be used"),
            ("--beams 2 --samples 3", 2, "--samples"),
            ("--temperature NaN", 2, "--temperature"),
            ("--temperature -1", 2, "--temperature"),
            ("--top-p 0", 2, "--top-p"),
            ("--min-p 1.5", 2, "--min-p"),
            ("--typical -1", 2, "--typical"),
            ("--repetition-penalty 0", 2, "--repetition-penalty"),
            ("--words 0", 2, "--words"),
            ("--samples 0", 2, "--samples"),
            ("--samples 99999999999", 1, "--samples"),
            ("--precision int3", 2, "int8"),
            ("--prompt-file nowhere.txt", 1, "nowhere.txt"),
            ("--interactive --json", 2, "cannot be used"),
        ] {
            let output = generate(flags, "");
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{flags}: {message}");
            assert!(message.contains(words) && output.stdout.is_empty(), "{flags}: {message}");
        }
    }
}

#[test]
fn interactive_through_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path(), "lstm");
    let drive = |input: &str| {
        let args = ["generate", run.to_str().unwrap(), "--interactive", "--prompt", "The bell"];
        let output = penwright(&args, input);
        let dialogue = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(output.status.success(), "{dialogue}");
        (stdout(&output).to_string(), dialogue)
    };
    assert_eq!(drive("q\n").0, "The bell\n");
    assert_eq!(drive("").0, "The bell\n");
    assert_eq!(drive("+s of é\nrang\nb\n+!\n").0, "The bells of é!\n");
    assert_eq!(drive("rang\n99\n?\n1\nb\nb\nb\nb\n").0, "The bell\n");
    let (text, dialogue) = drive("1\nr 5\nq\n");
    let offer =
        dialogue.lines().find(|line| line.starts_with("  1  ")).and_then(|line| line.split_once("%  ")).unwrap().1;
    let taken = format!("The bell{}", offer.replace('↵', "\n"));
    assert_eq!(text.strip_prefix(&taken).unwrap().chars().count(), 5 + 1, "{dialogue}");
    assert!(!dialogue.contains('\u{1b}'), "colours in a pipe");
}

#[test]
fn a_draft_writes_the_same_text() {
    let dir = tempfile::tempdir().unwrap();
    let runs = ["gpt2", "lstm"].map(|model| train(dir.path(), model));
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("other.txt"), "Quite another alphabet, 123.\n".repeat(90)).unwrap();
    for (text, out) in [("text.txt", "ngram"), ("other.txt", "other")] {
        let args = ["train", &path(text), "--out", &path(out), "--model", "ngram", "--level", "char", "-q"];
        assert!(penwright(&args, "").status.success());
    }
    for run in runs {
        let generate = |flags: &str| {
            let args =
                [&["generate", run.to_str().unwrap()][..], &flags.split_whitespace().collect::<Vec<_>>()].concat();
            penwright(&args, "")
        };
        let json = |flags: &str| -> Value {
            let output = generate(&format!("{flags} --json"));
            assert!(output.status.success(), "{flags}: {}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).unwrap()
        };
        let mut accepted = 0;
        for flags in ["--greedy", "--seed 4 --samples 3 --temperature 0.7 --top-k 9", "--greedy --precision int8"] {
            let flags = format!("{flags} --prompt The --tokens 200 --stop Xx");
            let plain = json(&flags);
            assert_eq!((&plain["drafted"], &plain["accepted"]), (&0.into(), &0.into()));
            for draft in ["off".to_string(), "prompt".into(), path("ngram"), "prompt --draft-tokens 3".into()] {
                let drafted = json(&format!("{flags} --draft {draft}"));
                assert_eq!(drafted["samples"], plain["samples"], "{flags} --draft {draft}");
                assert!(drafted["accepted"].as_u64() <= drafted["drafted"].as_u64(), "{drafted}");
                accepted += drafted["accepted"].as_u64().unwrap();
            }
        }
        assert!(accepted > 0 || run.ends_with("lstm"), "{accepted} tokens were drafted rightly");
        let shown = generate(&format!("--prompt The --greedy --tokens 200 --stats --draft {}", path("ngram")));
        let stats = String::from_utf8_lossy(&shown.stderr);
        assert!(stats.contains("of them right") || run.ends_with("lstm"), "{stats}");
        if run.ends_with("lstm") {
            let flags = format!("--summarize {} --tokens 40", path("text.txt"));
            assert_eq!(json(&format!("{flags} --draft prompt"))["samples"], json(&flags)["samples"]);
        }
        for (flags, code, words) in [
            (format!("--draft {}", path("nowhere")), 1, "nowhere"),
            (format!("--draft {}", run.display()), 2, "no n-gram model"),
            (format!("--draft {}", path("other")), 2, "other tokens"),
            ("--draft prompt --beams 2".into(), 2, "--draft"),
            ("--draft prompt --interactive".into(), 2, "cannot be used"),
            ("--draft prompt --draft-tokens 0".into(), 2, "--draft-tokens"),
        ] {
            let output = generate(&flags);
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{flags}: {message}");
            assert!(message.contains(words) && output.stdout.is_empty(), "{flags}: {message}");
        }
    }
}
