//! A server in the test's process, and a client that sends what a test says, byte for byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use penwright::model::{Gpt2, Gpt2Config, LanguageModel, Lstm, LstmConfig, Ngram, NgramConfig, Trainable};
use penwright::run::{ModelConfig, Run};
use penwright::tokenizer::{Level, Tokenizer};
use penwright_server::{Options, Server, Stopped, Stopper};
use serde_json::Value;

pub(crate) const TEXT: &str = "the old bell rang. \"who?\" asked ann, and ran on; no one came back\nuntil ten. é€";

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::train(Level::Char, &[TEXT], None).unwrap()
}

/// A run as if opened from a folder of that name.
fn run(config: ModelConfig, model: Arc<dyn LanguageModel>, tokenizer: Tokenizer) -> Run {
    Run { dir: PathBuf::from("nowhere"), config, model, tokenizer, tensors: Vec::new(), adapter: None }
}

/// A GPT-2 with so long a context, of weights large enough for distributions of some sharpness.
pub(crate) fn gpt2(context: usize, width: usize) -> Run {
    let tokenizer = tokenizer();
    let config =
        Gpt2Config { vocab: tokenizer.vocab_size(), context, layers: 2, heads: 2, width, ..Gpt2Config::default() };
    let mut model = Gpt2::new(config.clone(), 1).unwrap();
    model.params_mut().data.iter_mut().for_each(|w| *w *= 5.0);
    run(ModelConfig::Gpt2(config), Arc::new(model), tokenizer)
}

pub(crate) fn lstm() -> Run {
    let tokenizer = Tokenizer::train(Level::Bpe, &[&TEXT.repeat(9)], Some(300)).unwrap();
    let config = LstmConfig {
        vocab: tokenizer.vocab_size(),
        embed: 12,
        hidden: 20,
        layers: 2,
        tied: false,
        ..LstmConfig::default()
    };
    let mut model = Lstm::new(config.clone(), 2).unwrap();
    model.params_mut().data.iter_mut().for_each(|w| *w *= 4.0);
    run(ModelConfig::Lstm(config), Arc::new(model), tokenizer)
}

pub(crate) fn ngram() -> Run {
    let tokenizer = tokenizer();
    let config = NgramConfig { vocab: tokenizer.vocab_size(), order: 4 };
    let tokens = [&[tokenizer.eot()], &tokenizer.encode(&TEXT.repeat(5))[..]].concat();
    let model = Ngram::train(config.clone(), &tokens, tokenizer.eot()).unwrap();
    run(ModelConfig::Ngram(config), Arc::new(model), tokenizer)
}

/// All three.
pub(crate) fn runs() -> Vec<(String, Run)> {
    [("gpt2", gpt2(64, 16)), ("lstm", lstm()), ("ngram", ngram())].map(|(name, run)| (name.to_string(), run)).into()
}

/// A model so slow that a text of it takes seconds, on any machine.
pub(crate) fn slow() -> Vec<(String, Run)> {
    vec![("slow".into(), gpt2(64, 1024))]
}

pub(crate) fn options() -> Options {
    Options { addr: SocketAddr::from(([127, 0, 0, 1], 0)), streams: Some(8), threads: 2, ..Options::default() }
}

/// A server that stops when the test is over.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    pub(crate) stopper: Stopper,
    thread: Option<JoinHandle<Stopped>>,
}

impl Served {
    pub(crate) fn new(runs: Vec<(String, Run)>, options: Options) -> Self {
        let server = Server::bind(runs, options).unwrap();
        let (addr, stopper) = (server.local_addr().unwrap(), server.stopper());
        let thread = Some(std::thread::spawn(move || server.run().unwrap()));
        Served { addr, stopper, thread }
    }

    /// Waits for the end after [`Stopper::stop`].
    pub(crate) fn join(mut self) -> Stopped {
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_raw(path, body.to_string().as_bytes())
    }

    pub(crate) fn post_raw(&self, path: &str, body: &[u8]) -> Answer {
        read_answer(&mut self.begin(path, body))
    }

    /// Sends a request and leaves the answer to be read.
    pub(crate) fn begin(&self, path: &str, body: &[u8]) -> TcpStream {
        let mut stream = self.announce(path, body.len());
        // A server that has said no already may have closed its side.
        let _ = stream.write_all(body);
        stream
    }

    /// Sends the head of a request whose body will be so long.
    pub(crate) fn announce(&self, path: &str, len: usize) -> TcpStream {
        let mut stream = self.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    pub(crate) fn send(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    /// A number of `/metrics`, of the first line that begins so.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until a number is what it should be.
    pub(crate) fn wait_for(&self, name: &str, wanted: f64) {
        let start = Instant::now();
        while self.metric(name) != wanted {
            assert!(start.elapsed() < Duration::from_secs(20), "{name} is {} and not {wanted}", self.metric(name));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The JSON of an answer that went well.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The events of a stream, whose end is there.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let text = self.text();
        let text = text.strip_suffix("data: [DONE]\n\n").unwrap_or_else(|| panic!("no end: {text}"));
        let data = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|h| h.1)
    }

    /// The error of a refused request in OpenAI's form: status, message and field.
    pub(crate) fn error(&self) -> (u16, String, Option<String>) {
        assert!(self.status >= 400, "{} {}", self.status, self.text());
        let value = self.json();
        let error = value["error"].as_object().unwrap_or_else(|| panic!("{value}"));
        let mut keys: Vec<&str> = error.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "message", "param", "type"]);
        let message = error["message"].as_str().unwrap().to_string();
        assert!(!message.is_empty() && error["type"].is_string());
        (self.status, message, error["param"].as_str().map(String::from))
    }
}

/// Reads an answer to its end, by its length, in chunks, or until the connection closes.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut raw = Vec::new();
    if let Err(error) = stream.read_to_end(&mut raw) {
        assert!(!raw.is_empty(), "no answer: {error}");
    }
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("{raw:?}"));
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = raw.split_off(end + 4);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, head, body: if chunked { dechunk(&body) } else { body } }
}

/// Chunks, as far as they have come.
fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = raw.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..at]).unwrap(), 16).unwrap();
        let Some(chunk) = raw.get(at + 2..at + 2 + size) else { break };
        body.extend_from_slice(chunk);
        raw = raw.get(at + 4 + size..).unwrap_or_default();
    }
    body
}
