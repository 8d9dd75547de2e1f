//! How fast a model writes: a JSON line for each precision and number of texts side by side.
//!
//!     cargo run --release --example decode_speed -- MODEL [--precision f32,bf16,int8,int4] [--streams 1,16] [--prompt 32] [--new 128]
//!
//! Greedy from a prompt of arbitrary tokens. The first run of each warms up; of three more the fastest counts.
//! `start_s` is from opening the files, which may lie in the system's cache, to the first token's probabilities.

mod support;

use std::path::Path;
use std::time::Instant;

use penwright::run::Run;
use serde_json::json;
use support::{Arguments, precision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::read();
    let model = arguments.model()?;
    let option = |name: &str, default: &str| arguments.option(name, default);
    let (prompt, new): (usize, usize) = (option("--prompt", "32").parse()?, option("--new", "128").parse()?);
    for name in option("--precision", "f32,bf16,int8,int4").split(',') {
        let precision = precision(name);
        let start = Instant::now();
        let run = Run::open(Path::new(model))?;
        let opened = start.elapsed().as_secs_f64();
        let model = run.model.with_precision(precision)?;
        let loaded = start.elapsed().as_secs_f64();
        let vocab = model.vocab_size();
        let tokens: Vec<u32> = (0..prompt).map(|i| (100 + i * 37) as u32 % vocab as u32).collect();
        model.clone().session(1)?.feed(0, &tokens)?;
        let start_s = start.elapsed().as_secs_f64();
        for streams in option("--streams", "1").split(',') {
            let streams: usize = streams.parse()?;
            let (mut prefill, mut decode) = (f64::MAX, f64::MAX);
            for run in 0..4 {
                let mut session = model.clone().session(streams)?;
                let start = Instant::now();
                session.feed(0, &tokens)?;
                let read = start.elapsed().as_secs_f64();
                (1..streams).for_each(|stream| session.copy(0, stream));
                let all: Vec<usize> = (0..streams).collect();
                let start = Instant::now();
                penwright::generate::standing_by(|| {
                    for _ in 0..new {
                        let next: Vec<u32> = all.iter().map(|&s| likeliest(session.log_probs(s))).collect();
                        session.step(&all, &next)?;
                    }
                    Ok::<(), penwright::Error>(())
                })?;
                if run > 0 {
                    prefill = prefill.min(read);
                    decode = decode.min(start.elapsed().as_secs_f64());
                }
            }
            let line = json!({
                "precision": name, "streams": streams, "decode_tokens_per_s": (streams * new) as f64 / decode,
                "prompt": prompt, "prefill_tokens_per_s": prompt as f64 / prefill,
                "open_s": opened, "load_s": loaded, "start_s": start_s
            });
            println!("{line}");
        }
    }
    Ok(())
}

fn likeliest(log_probs: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in log_probs.iter().enumerate() {
        if x > log_probs[best] {
            best = i;
        }
    }
    best as u32
}
