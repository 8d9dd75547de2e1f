//! What goes wrong is said in one sentence, with the right status, and leaves nothing half-written.

use std::path::Path;
use std::process::{Command, Output};

fn penwright(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penwright")).args(args).output().unwrap()
}

/// Runs a command line that must fail; `words` are in its one sentence.
fn fails(args: &[&str], code: i32, words: &[&str]) {
    refused(&penwright(args), args, code, words);
}

fn refused(output: &Output, args: &[&str], code: i32, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{args:?}: {message}");
    assert!(!message.contains("panicked"), "{args:?}: {message}");
    for word in words {
        assert!(message.contains(word), "{args:?} lacks {word}: {message}");
    }
}

fn text(dir: &Path) -> String {
    let path = dir.join("text.txt");
    let lines: String = (0..400).map(|n| format!("The bell rang {} times in tower {n}.\n", n * n % 13)).collect();
    std::fs::write(&path, lines).unwrap();
    path.to_str().unwrap().into()
}

const SMALL: &str = "--level char --layers 1 --width 16 --heads 2 --batch 2 --context 8 --steps 20 -q";

fn small<'a>(text: &'a str, out: &'a str, more: &'a str) -> Vec<&'a str> {
    ["train", text, "--out", out].into_iter().chain(SMALL.split(' ')).chain(more.split_whitespace()).collect()
}

#[test]
fn texts_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let out = out.to_str().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    };
    let rubbish: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (path, words) in [
        (write("empty.txt", b""), "text"),
        (write("one.txt", b"x"), "too short"),
        (write("short.txt", b"Short."), "longer text"),
        (write("rubbish.txt", &rubbish), "rubbish.txt"),
        (write("cut.txt.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b]), "cut.txt.gz"),
        ("nowhere.txt".into(), "check the path"),
    ] {
        fails(&small(&path, out, ""), 1, &[words]);
        assert!(!Path::new(out).join("model.safetensors").exists());
    }
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    fails(&small(folder.to_str().unwrap(), out, ""), 1, &["folder"]);
}

#[test]
fn settings_that_cannot_work() {
    let dir = tempfile::tempdir().unwrap();
    let (text, out) = (text(dir.path()), dir.path().join("run"));
    let out = out.to_str().unwrap();
    for (more, code, words) in [
        ("--width 10 --heads 3", 2, "--heads"),
        ("--context 0", 2, "--context"),
        ("--batch 0", 2, "--batch"),
        ("--dropout 1", 2, "--dropout"),
        ("--lr NaN", 2, "--lr"),
        ("--clip 0", 2, "--clip"),
        ("--lr-decay 0", 2, "--lr-decay"),
        ("--lr-decay NaN", 2, "--lr-decay"),
        ("--schedule linear --lr-decay 0.4", 2, "--lr-decay"),
        ("--momentum 0.9", 2, "--momentum"),
        ("--optimizer muon --momentum 1", 2, "--momentum"),
        ("--optimizer muon --muon-lr 0", 2, "--muon-lr"),
        ("--muon-lr 0.1", 2, "--muon-lr"),
        ("--beta1 1", 2, "--beta1"),
        ("--optimizer muon --beta2 NaN", 2, "--beta2"),
        ("--optimizer sgd --beta1 0.8", 2, "--beta1"),
        ("--muon-iterations 3", 2, "--muon-iterations"),
        ("--optimizer muon --muon-iterations 0", 2, "--muon-iterations"),
        ("--spelling NaN", 2, "--spelling"),
        ("--optimizer sgd --spelling 1", 2, "--spelling"),
        ("--bpe-dropout 0.1", 2, "--level bpe"),
        ("--bpe-dropout NaN", 2, "not at least 0"),
        ("--set average=never", 2, "average"),
        ("--model lstm --tied --calibrate --dry-run", 2, "--calibrate"),
        ("--model ngram --order 99", 2, "--order"),
        ("--weight-drop 0.5", 2, "for an LSTM"),
        ("--model gpt2 --random-length", 2, "--random-length"),
        ("--model ngram --ar 2", 2, "--ar"),
        ("--model lstm --dropout-embed 1", 2, "--dropout-embed"),
        ("--model lstm --tar NaN", 2, "--tar"),
        ("--model lstm --mogrifier 99", 2, "--mogrifier"),
        ("--model lstm --mogrifier-rank 9", 2, "--mogrifier ROUNDS"),
        ("--model gpt2 --forget-bias 0", 2, "--forget-bias"),
        ("--model lstm --forget-bias inf", 2, "--forget-bias"),
        ("--model gpt2 --unigram-bias", 2, "--unigram-bias"),
        ("--vocab-size 300", 2, "--vocab-size"),
        ("--set lr=fast", 2, "lr=fast"),
        ("--config nowhere.toml", 1, "nowhere.toml"),
        ("--width 65536 --layers 96", 1, "memory"),
        // Weights that leap out of range at the first steps.
        ("--lr 1e38 --warmup 1 --clip 1e30", 1, "step"),
    ] {
        let args: Vec<&str> = ["train", &text, "--out", out]
            .into_iter()
            .chain("--level char -q --steps 20".split(' '))
            .chain(more.split_whitespace())
            .collect();
        fails(&args, code, &[words]);
    }
}

#[test]
fn places_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let text = text(dir.path());
    let below_a_file = format!("{text}/run");
    fails(&small(&text, &below_a_file, ""), 1, &["text.txt/run"]);
    fails(&["generate", dir.path().to_str().unwrap()], 1, &["config.json"]);
}

/// A limit on the size of files stands for a disk that is full: what was written before stays whole.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (text, run) = (text(dir.path()), dir.path().join("run"));
    let args = small(&text, run.to_str().unwrap(), "--set steps=1000000 --checkpoint-every 0.05s --resume");
    let args: Vec<&str> = args.into_iter().filter(|arg| !["--steps", "20"].contains(arg)).collect();
    let checkpoint = run.join("state/checkpoint.safetensors");
    let mut child = Command::new(env!("CARGO_BIN_EXE_penwright")).args(&args).spawn().unwrap();
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = std::fs::read(&checkpoint).unwrap();
    let penwright = env!("CARGO_BIN_EXE_penwright");
    let limited = |args: String| {
        let script = format!("trap '' XFSZ; ulimit -f 8; exec {penwright} {args}");
        Command::new("sh").args(["-c", &script]).output().unwrap()
    };
    refused(&limited(args.join(" ")), &["resumed"], 1, &["cannot write"]);
    assert!(std::fs::read(&checkpoint).unwrap() == before);
    // A run that cannot write its first weights leaves none, and no temporary file.
    let fresh = dir.path().join("fresh");
    refused(&limited(small(&text, fresh.to_str().unwrap(), "").join(" ")), &["new"], 1, &["cannot write"]);
    assert!(!fresh.join("model.safetensors").exists());
    let left = std::fs::read_dir(&fresh).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with(".tmp")));
}
