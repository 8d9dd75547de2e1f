//! `penwright eval`.

use std::io::{self, Write};
use std::time::Instant;

use penwright::corpus;
use penwright::model::mean_score;
use penwright::train::{Settings, token_stream};
use serde_json::json;

use super::{Failure, name, open};
use crate::args::{Cli, Eval};

pub(super) fn run(cli: &Cli, args: &Eval) -> Result<(), Failure> {
    let run = open(cli, &args.run)?;
    let corpus = corpus::read(&args.text, &Settings::read_options_of(&run.dir)?, &mut |_| {})?;
    let tokens = token_stream(&run.tokenizer, &corpus.texts());
    let model = match args.precision {
        Some(precision) => run.model.clone().with_precision(precision.into())?,
        None => run.model.clone(),
    };
    let start = Instant::now();
    let (nats, top1) = mean_score(&*model, &tokens, args.stride)?;
    let seconds = start.elapsed().as_secs_f64();
    let (chars, bytes) = (corpus.chars(), corpus.bytes());
    let scored = tokens.len() - 1;
    let bits = nats * scored as f64 / std::f64::consts::LN_2;
    let mut out = io::stdout();
    if cli.json {
        let result = json!({
            "run": name(&args.run), "model": run.model.kind(), "tokenizer": run.tokenizer.level(),
            "params": run.model.num_params(), "tokens": scored, "chars": chars, "bytes": bytes,
            "nats_per_token": nats, "perplexity": nats.exp(), "bits_per_char": bits / chars as f64,
            "bits_per_byte": bits / bytes as f64, "top1_accuracy": top1, "tokens_per_s": scored as f64 / seconds
        });
        writeln!(out, "{result}")?;
    } else {
        writeln!(out, "{} ({}, {} parameters)", name(&args.run), run.model.kind(), run.model.num_params())?;
        writeln!(out, "  loss                {nats:.4} nats per token over {scored} tokens")?;
        writeln!(out, "  perplexity          {:.4}", nats.exp())?;
        writeln!(out, "  bits per character  {:.4}", bits / chars as f64)?;
        writeln!(out, "  top-1 accuracy      {:.2} %", 100.0 * top1)?;
    }
    Ok(())
}
