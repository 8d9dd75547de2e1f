//! The report and the event files of a run, from the outside.

use std::path::Path;
use std::process::{Command, Output};

use penwright::report::tensorboard;
use serde_json::Value;

fn penwright(dir: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penwright")).current_dir(dir).args(args.split(' ')).output().unwrap()
}

fn done(dir: &Path, args: &str) -> String {
    let output = penwright(dir, args);
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(dir: &Path) {
    let lines: String = (0..400).map(|n| format!("The bell rang {} times in tower {n}.\n", n * n % 13)).collect();
    std::fs::write(dir.join("text.txt"), lines).unwrap();
}

const SMALL: &str = "--level char --layers 1 --width 16 --batch 2 --context 8 -q";

/// The lines of metrics.jsonl.
fn record(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn training_leaves_a_report_and_the_command_makes_it_again() {
    let dir = tempfile::tempdir().unwrap();
    text(dir.path());
    for (out, model) in [("gpt2", "gpt2 --heads 2"), ("lstm", "lstm")] {
        done(dir.path(), &format!("train text.txt --out {out} --model {model} {SMALL} --steps 60 --sample-every 20"));
    }
    done(dir.path(), "train text.txt --out ngram --model ngram --level char -q");
    for out in ["gpt2", "lstm", "ngram"] {
        let page = dir.path().join(out).join("report.html");
        let written = std::fs::read_to_string(&page).unwrap();
        assert!(written.starts_with("<!DOCTYPE html>") && written.ends_with("</html>"));
        assert!(!written.contains("http://") && !written.contains("https://") && !written.contains("<script"));
        std::fs::remove_file(&page).unwrap();
        let json: Value = serde_json::from_str(&done(dir.path(), &format!("report {out} --json"))).unwrap();
        assert_eq!(std::fs::read_to_string(&page).unwrap(), written, "the same from the record alone");
        assert_eq!(json["html"], format!("{out}/report.html"));
        let headline = json["headline"].as_str().unwrap();
        assert!(written.contains(headline));
        let told = done(dir.path(), &format!("report {out} --html other.html"));
        assert!(told.starts_with(headline) && dir.path().join("other.html").exists());
    }
    let json: Value = serde_json::from_str(&done(dir.path(), "report ngram --json")).unwrap();
    assert_eq!(json["verdict"]["finding"], "counted");
}

#[test]
fn advice_is_a_command_that_works() {
    let dir = tempfile::tempdir().unwrap();
    text(dir.path());
    done(dir.path(), &format!("train text.txt --out a --model lstm {SMALL} --steps 40"));
    let json: Value = serde_json::from_str(&done(dir.path(), "report a --json")).unwrap();
    assert_eq!(json["verdict"]["finding"], "still-improving");
    let command = json["next"][0]["command"].as_str().unwrap();
    assert_eq!(command, "penwright train --config a/penwright.toml --steps 80 --out a-longer");
    done(dir.path(), &format!("{} -q", command.strip_prefix("penwright ").unwrap()));
    assert_eq!(record(&dir.path().join("a-longer")).last().unwrap()["steps"], 80);
}

#[test]
fn a_run_that_diverges_says_so() {
    let dir = tempfile::tempdir().unwrap();
    text(dir.path());
    let args = format!("train text.txt --out a --model lstm {SMALL} --steps 400 --lr 1e38 --eval-every 5");
    let output = penwright(dir.path(), &args);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_str(&done(dir.path(), "report a --json")).unwrap();
    assert_eq!(json["verdict"]["finding"], "diverged");
    assert!(json["next"][0]["command"].as_str().unwrap().contains("--lr"));
    let page = std::fs::read_to_string(dir.path().join("a/report.html")).unwrap();
    assert!(page.contains("Training diverged"));
    assert_eq!(record(&dir.path().join("a")).last().unwrap()["reason"], "diverged");
}

#[test]
fn event_files_go_on_where_a_run_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    text(dir.path());
    let run = dir.path().join("a");
    let files = || tensorboard::files(&run).unwrap();
    let train = format!("train text.txt --out a --model lstm {SMALL} --steps 60 --sample-every 20");
    done(dir.path(), &train);
    assert!(files().is_empty(), "only on request");
    done(dir.path(), &format!("{train} --tensorboard"));
    assert_eq!(files().len(), 1);
    // Every file begins with its version, then come the events: here all but plan and end.
    let events = |path: &Path| tensorboard::frames(&std::fs::read(path).unwrap()).unwrap().len();
    assert_eq!(events(&files()[0]), 1 + record(&run).len() - 2);
    // A finished run that is resumed has nothing left to do; its new file is a version and a session start.
    done(dir.path(), &format!("{train} --resume"));
    assert_eq!(files().len(), 2);
    assert_eq!(events(&files()[1]), 2);
    // One that had none gets all of its record.
    files().iter().for_each(|path| std::fs::remove_file(path).unwrap());
    done(dir.path(), &format!("{train} --resume --tensorboard"));
    assert_eq!(
        events(&files()[0]),
        2 + record(&run).iter().filter(|e| e["event"] != "plan" && e["event"] != "done").count()
    );
    // A new run forgets them.
    done(dir.path(), &train);
    assert!(files().is_empty());
}

#[test]
fn refusals() {
    let dir = tempfile::tempdir().unwrap();
    text(dir.path());
    for (args, words) in [("report nowhere", "metrics.jsonl"), ("report . --html no/page.html", "--html")] {
        let output = penwright(dir.path(), args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && message.trim_end().lines().count() == 1, "{args}: {message}");
        assert!(message.contains(words) && output.stdout.is_empty(), "{args}: {message}");
    }
}
