//! `penwright serve` as a program starts, asks and stops it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

fn penwright(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penwright")).args(args).output().unwrap()
}

fn train(dir: &Path, name: &str, model: &str) -> PathBuf {
    let (text, run) = (dir.join("text.txt"), dir.join(name));
    let lines: String = (0..300).map(|n| format!("The bell rang {} times. Ann went on.\n\n", n * n % 13)).collect();
    std::fs::write(&text, lines).unwrap();
    let shape = "--level char --layers 1 --width 32 --batch 4 --context 32 --steps 60 --sample-every 0 --heads 2 -q";
    let (text, out) = (text.to_str().unwrap(), run.to_str().unwrap());
    let args = [&["train", text, "--out", out, "--model", model][..], &shape.split(' ').collect::<Vec<_>>()].concat();
    assert!(penwright(&args).status.success());
    run
}

/// A server that has said where it listens.
struct Served {
    child: Child,
    addr: String,
    models: Value,
}

impl Served {
    fn new(args: &[&str]) -> Self {
        let args = [&["serve", "--addr", "127.0.0.1:0", "--json"][..], args].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_penwright"));
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "listening");
        Served { child, addr: event["addr"].as_str().unwrap().into(), models: event["models"].clone() }
    }

    fn post(&self, path: &str, body: &Value, key: &str) -> (String, Value) {
        let (body, mut stream) = (body.to_string(), TcpStream::connect(&self.addr).unwrap());
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().into(), serde_json::from_str(body).unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_same_text_as_generate_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (gpt2, ngram) = (train(dir.path(), "first", "gpt2"), train(dir.path(), "second", "ngram"));
    let keys = dir.path().join("keys");
    std::fs::write(&keys, "# of the test\na-key\n").unwrap();
    let named = format!("other={}", ngram.display());
    let flags = ["--api-key-file", keys.to_str().unwrap(), "--streams", "3", "--precision", "int8"];
    let mut server = Served::new(&[&[gpt2.to_str().unwrap(), &named][..], &flags].concat());
    assert_eq!(server.models, json!([{"id": "first", "streams": 3}, {"id": "other", "streams": 3}]));
    for (model, run) in [("first", &gpt2), ("other", &ngram)] {
        let body =
            json!({"model": model, "prompt": "The bell", "max_tokens": 50, "n": 2, "seed": 8, "temperature": 0.7});
        let (status, answer) = server.post("/v1/completions", &body, "a-key");
        assert_eq!(status, "200", "{answer}");
        let flags = "--prompt The_bell --tokens 50 --samples 2 --seed 8 --temperature 0.7 --precision int8 --json";
        let args: Vec<String> = flags.split(' ').map(|flag| flag.replace('_', " ")).collect();
        let args = [&["generate", run.to_str().unwrap()][..], &args.iter().map(|a| &**a).collect::<Vec<_>>()].concat();
        let written: Value = serde_json::from_slice(&penwright(&args).stdout).unwrap();
        for (choice, sample) in answer["choices"].as_array().unwrap().iter().zip(written["samples"].as_array().unwrap())
        {
            assert_eq!((&choice["text"], &choice["finish_reason"]), (&sample["text"], &sample["finish_reason"]));
        }
    }
    assert_eq!(server.post("/v1/score", &json!({"model": "first", "text": "a"}), "b-key").0, "401");
    assert!(Command::new("kill").arg(server.child.id().to_string()).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "penwright: stopped; all requests were answered\n");
}

#[test]
fn what_cannot_be_served_is_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path(), "run", "ngram");
    let run = run.to_str().unwrap();
    let none = dir.path().join("none");
    std::fs::write(&none, "# nobody\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (flags, code, words) in [
        (&[run, run][..], 2, "two runs are called run"),
        (&[run, "--queue", "0"], 2, "--queue"),
        (&[run, "--request-timeout", "soon"], 2, "--request-timeout"),
        (&[run, "--cors-origin", "example.org"], 2, "--cors-origin"),
        (&[run, "--api-key-file", none.to_str().unwrap()], 2, "--api-key-file"),
        (&[run, "--api-key-file", "nowhere.txt"], 1, "nowhere.txt"),
        (&[run, "--addr", &taken], 1, &taken),
        (&["./nowhere"], 1, "nowhere"),
        (&[run, "--addr", "127.0.0.1:0", "--streams", "100000000000"], 1, "--streams"),
    ] {
        let output = penwright(&[&["serve"][..], flags].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {message}");
        assert!(message.trim_end().lines().count() == 1 && message.contains(words), "{flags:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}
