//! `penwright eval`.

use std::io::{self, Write};
use std::time::Instant;

use penwright::corpus;
use penwright::model::{Adaptation, Dynamic, NeuralCache, mean_adapted_score, mean_score};
use penwright::run::Run;
use penwright::train::{SETTINGS, Settings, token_stream};
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
    let adaptation = adaptation(args, &run)?;
    let start = Instant::now();
    let (nats, top1) = match adaptation.is_some() {
        true => mean_adapted_score(&*model, &tokens, &adaptation)?,
        false => mean_score(&*model, &tokens, args.stride)?,
    };
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

/// What the model may do with the text.
fn adaptation(args: &Eval, run: &Run) -> Result<Adaptation, Failure> {
    let cache = args.adaptation.cache.map(|size| NeuralCache {
        size,
        theta: args.adaptation.cache_theta,
        lambda: args.adaptation.cache_lambda,
    });
    let training = match args.adaptation.dynamic_rms {
        true => {
            let texts = Settings::load(&run.dir.join(SETTINGS))?.training_texts()?;
            let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
            Some(token_stream(&run.tokenizer, &texts))
        }
        false => None,
    };
    let dynamic = args.adaptation.dynamic.map(|lr| Dynamic {
        lr,
        decay: args.adaptation.dynamic_decay,
        segment: args.adaptation.dynamic_segment,
        epsilon: Dynamic::EPSILON,
        training,
    });
    Ok(Adaptation { cache, dynamic })
}
