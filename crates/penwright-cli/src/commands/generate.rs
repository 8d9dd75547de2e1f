//! `penwright generate`.

use std::io::{self, Write};
use std::time::Instant;

use penwright::generate::{Sampling, generate};
use penwright::run::Run;
use serde_json::json;

use super::Failure;
use crate::args::{Cli, Generate};

pub(super) fn run(cli: &Cli, args: &Generate) -> Result<(), Failure> {
    let start = Instant::now();
    let run = Run::open(&args.run)?;
    let load_s = start.elapsed().as_secs_f64();
    let sampling = Sampling {
        temperature: if args.greedy { 0.0 } else { args.temperature },
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    };
    let mut out = io::stdout();
    let mut written = Ok(());
    let mut show = |text: &str| {
        if !cli.json && written.is_ok() {
            written = write!(out, "{text}").and_then(|()| out.flush());
        }
    };
    show(&args.prompt);
    let start = Instant::now();
    let sample = generate(&run.model, &run.tokenizer, &args.prompt, args.tokens, &sampling, &mut show)?;
    written?;
    if cli.json {
        let rate = sample.tokens as f64 / start.elapsed().as_secs_f64();
        let sample = json!({
            "text": sample.text, "tokens": sample.tokens, "finish_reason": sample.finish_reason, "log_prob": sample.log_prob
        });
        let prompt_tokens = run.tokenizer.encode(&args.prompt).len();
        writeln!(
            out,
            "{}",
            json!({"samples": [sample], "prompt_tokens": prompt_tokens, "decode_tokens_per_s": rate, "load_s": load_s})
        )?;
    } else {
        writeln!(out)?;
    }
    Ok(())
}
