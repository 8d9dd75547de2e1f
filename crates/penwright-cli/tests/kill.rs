//! Training that is killed outright, at any moment, and resumed ends with the same weights as if left alone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KILLS: usize = 20;

/// All that can be switched on for an LSTM.
const EVERYTHING: &str = "--model lstm --layers 2 --width 32 --embed 16 --tied --dropout-input 0.2 --dropout-embed 0.1 \
    --weight-drop 0.2 --ar 1 --tar 1 --random-length --mogrifier 2 --mogrifier-rank 4 --level bpe --vocab-size 300 --bpe-dropout 0.3";

fn command(text: &Path, out: &Path, model: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penwright"));
    command.arg("train").arg(text).arg("--out").arg(out);
    match model {
        "adapters" => command.arg("--from").arg(text.with_file_name("base")).args(["--lora", "4"]),
        "muon" => command.args("--layers 2 --width 32 --optimizer muon --average 0.98 --calibrate".split(' ')),
        "everything" => command.args(EVERYTHING.split(' ')),
        model => command.args(["--model", model, "--layers", "2", "--width", "32"]),
    };
    command.args("--quiet --batch 4 --context 24 --dropout 0.1 --steps 600".split(' '));
    command.args("--eval-every 50 --checkpoint-every 0.02s --resume --sample-every 0".split(' '));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn killed_at_random_moments_and_resumed() {
    // The moments are random anew each time; what must come out is not.
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for model in ["gpt2", "lstm", "everything", "adapters", "muon"] {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.txt");
        let lines: String = (0..900).map(|n| format!("The bell rang {} times in tower {n}.\n", n * n % 13)).collect();
        std::fs::write(&text, lines).unwrap();
        let undisturbed = dir.path().join("undisturbed");
        if model == "adapters" {
            let base = command(&text, &dir.path().join("base"), "gpt2").args(["--level", "bpe"]).status();
            assert!(base.unwrap().success());
        }
        let start = std::time::Instant::now();
        assert!(command(&text, &undisturbed, model).status().unwrap().success());
        let whole = start.elapsed();
        // The best weights as a file, and of the last checkpoint the arrays: weights, moments, carried state. (Its
        // header tells seconds.)
        let weights = |run: &Path| {
            let last = std::fs::read(run.join("state/checkpoint.safetensors")).unwrap();
            let header = u64::from_le_bytes(last[..8].try_into().unwrap()) as usize;
            assert!(last.len() > 8 + header + 1000);
            let file = if model == "adapters" { "adapter_model.safetensors" } else { "model.safetensors" };
            (std::fs::read(run.join(file)).unwrap(), last[8 + header..].to_vec())
        };
        let expected = weights(&undisturbed);
        let (mut kills, mut out, mut finished) = (0, dir.path().join("run0"), 0);
        while kills < KILLS || finished == 0 {
            let mut child = command(&text, &out, model).spawn().unwrap();
            let most = if kills < KILLS { whole.as_millis() as u64 / 2 } else { 600_000 };
            let deadline = std::time::Instant::now() + Duration::from_millis(5 + random(most.max(20)));
            let status = loop {
                match child.try_wait().unwrap() {
                    None if std::time::Instant::now() < deadline || kills >= KILLS => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    status => break status,
                }
            };
            if let Some(status) = status {
                assert!(status.success(), "a resumed run failed after {kills} kills");
                assert!(weights(&out) == expected, "{model}: other weights after {kills} kills");
                finished += 1;
                out = dir.path().join(format!("run{finished}"));
            } else {
                child.kill().unwrap(); // SIGKILL on Unix
                child.wait().unwrap();
                kills += 1;
            }
        }
    }
}
