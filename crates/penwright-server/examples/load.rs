//! Load on a server: many streams at once for a while, how long until the first token and from token to token, and how
//! many tokens a second, beside a single stream.
//!
//! ```sh
//! cargo run --release -p penwright-server --example load -- 127.0.0.1:8080 MODEL [STREAMS] [SECONDS] [plain]
//! ```
//!
//! Prints one JSON object a line: for one stream, for all, and how many times as many tokens that is. With `plain` no
//! log-probabilities are asked for, which other servers do not have for a stream: each event counts as a token, and a text
//! that ends by its length as all its tokens.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Lengths of prompts in words, and of texts in tokens: mixed, the same for everyone.
const PROMPTS: [usize; 4] = [4, 16, 48, 120];
const TEXTS: [usize; 4] = [32, 64, 128, 96];
const WORDS: [&str; 8] = ["the ", "door ", "of ", "a ", "house ", "and ", "she ", "went "];

#[derive(Default)]
struct Seen {
    first: Mutex<Vec<f64>>,
    next: Mutex<Vec<f64>>,
    tokens: AtomicU64,
    texts: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    /// Texts that had not begun when the time was up.
    waiting: AtomicU64,
}

/// What is loaded.
struct Target {
    addr: SocketAddr,
    model: String,
    plain: bool,
}

/// How long after the end a stream waits for its next token.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [addr, model, rest @ ..] = &args[..] else {
        return Err("name the server's address and a model, as in: load 127.0.0.1:8080 gpt2 200 60".into());
    };
    let addr: SocketAddr = addr.parse().map_err(|e| format!("{addr}: {e}"))?;
    let target = Target { addr, model: model.clone(), plain: rest.get(2).is_some_and(|arg| arg == "plain") };
    let number = |i: usize, usual: u64| rest.get(i).map_or(Ok(usual), |n| n.parse().map_err(|e| format!("{n}: {e}")));
    let (streams, seconds) = (number(0, 200)?, number(1, 60)?);
    let one = measure(&target, 1, Duration::from_secs(seconds.div_ceil(6)));
    let all = measure(&target, streams, Duration::from_secs(seconds));
    println!("{}", json!({"throughput_ratio": all / one}));
    Ok(())
}

/// Keeps so many streams busy and tells of it; tokens a second.
fn measure(target: &Target, streams: u64, time: Duration) -> f64 {
    let (seen, start) = (Seen::default(), Instant::now());
    let busy = |stream: u64| {
        let mut i = stream as usize;
        while start.elapsed() < time {
            match write(target, i, start + time, &seen) {
                Ok(200) => drop(seen.texts.fetch_add(1, Relaxed)),
                Ok(429) => {
                    seen.refused.fetch_add(1, Relaxed);
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(_) if start.elapsed() >= time => drop(seen.waiting.fetch_add(1, Relaxed)),
                Ok(_) | Err(_) => drop(seen.failed.fetch_add(1, Relaxed)),
            }
            i += 7;
        }
    };
    std::thread::scope(|scope| {
        let busy = &busy;
        (0..streams).for_each(|stream| drop(scope.spawn(move || busy(stream))));
    });
    let seconds = start.elapsed().as_secs_f64();
    let rate = seen.tokens.load(Relaxed) as f64 / seconds;
    let line = json!({
        "streams": streams, "seconds": seconds, "texts": seen.texts.load(Relaxed), "tokens_per_s": rate,
        "refused": seen.refused.load(Relaxed), "failed": seen.failed.load(Relaxed),
        "waiting": seen.waiting.load(Relaxed),
        "first_token_s": quantiles(&seen.first), "token_s": quantiles(&seen.next)
    });
    println!("{line}");
    rate
}

/// Streams one text until its end or the end of the time; the status.
fn write(target: &Target, i: usize, until: Instant, seen: &Seen) -> io::Result<u16> {
    let prompt: String = (0..PROMPTS[i % 4]).map(|w| WORDS[(w * 5 + i) % 8]).collect();
    let tokens = TEXTS[i / 4 % 4];
    let mut body = json!({"model": target.model, "prompt": prompt, "max_tokens": tokens, "stream": true, "seed": i});
    if !target.plain {
        body["logprobs"] = 0.into();
    }
    let body = body.to_string();
    let mut last: Option<Instant> = None;
    let begin = Instant::now();
    let mut stream = TcpStream::connect(target.addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(until.saturating_duration_since(begin) + GRACE))?;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    let head = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    if status != 200 {
        return Ok(status);
    }
    let mut counted = 0;
    loop {
        let line = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            break;
        }
        let now = Instant::now();
        let event: Value = serde_json::from_str(data)?;
        if !event["error"].is_null() {
            return Err(io::Error::other(event["error"]["message"].to_string()));
        }
        let choice = &event["choices"][0];
        let new = match target.plain {
            // Some bytes of a character are held back until it is whole.
            true if choice["finish_reason"] == "length" => tokens - counted,
            true => choice["text"].as_str().is_some_and(|text| !text.is_empty()).into(),
            false => choice["logprobs"]["tokens"].as_array().map_or(0, Vec::len),
        };
        if new == 0 {
            continue;
        }
        counted += new;
        let times = if last.is_none() { &seen.first } else { &seen.next };
        let took = now - last.unwrap_or(begin);
        times.lock().map_err(|_| io::ErrorKind::Other)?.push(took.as_secs_f64() / new as f64);
        seen.tokens.fetch_add(new as u64, Relaxed);
        last = Some(now);
        if now > until {
            break; // and so goes away in the midst of it
        }
    }
    Ok(status)
}

/// The median and the 99th percentile.
fn quantiles(times: &Mutex<Vec<f64>>) -> Value {
    let Ok(mut times) = times.lock() else { return Value::Null };
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times.get(((times.len() as f64 - 1.0) * q).round() as usize);
    json!({"p50": at(0.5), "p99": at(0.99)})
}
