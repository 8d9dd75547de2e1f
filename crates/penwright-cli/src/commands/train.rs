//! `penwright train`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use penwright::corpus::{self, Corpus, ReadOptions};
use penwright::model::{Gpt2Config, LstmConfig};
use penwright::run::ModelConfig;
use penwright::tokenizer::{self, Tokenizer};
use penwright::train::{Event, Length, Outcome, Texts, TrainOptions, train};

use super::{Failure, name};
use crate::args::{Cli, Level, Model, Schedule, Train};

pub(super) fn run(cli: &Cli, args: &Train) -> Result<(), Failure> {
    let read = |inputs: &[PathBuf], options: &ReadOptions| corpus::read(inputs, options, &mut |_| {});
    let held_out =
        args.val.as_ref().map(|path| read(std::slice::from_ref(path), &ReadOptions::default())).transpose()?;
    let options =
        ReadOptions { except: held_out.as_ref().map(Corpus::hashes).unwrap_or_default(), ..Default::default() };
    let corpus = read(&args.text, &options)?;
    if !cli.json && !cli.quiet {
        eprintln!("{}", corpus.report());
    }
    let (training, validation) = match &held_out {
        Some(held_out) => (corpus.texts(), held_out.texts()),
        None => corpus.split(args.val_fraction)?,
    };
    let level = match args.level {
        Level::Char => tokenizer::Level::Char,
    };
    let tokenizer = Tokenizer::train(level, &training);
    let config = model_config(args, tokenizer.vocab_size());
    let options = train_options(cli, args);
    let mut closed = Ok(());
    let stop = stop_on_interrupt()?;
    let texts = Texts { train: &training, val: &validation };
    let outcome = train(&config, &tokenizer, texts, &options, &args.out, &stop, &mut |event| {
        if cli.json {
            let line = serde_json::to_string(event).unwrap_or_default();
            let written = writeln!(io::stdout(), "{line}");
            if closed.is_ok() {
                closed = written;
            }
        } else if !cli.quiet {
            eprintln!("{}", progress_line(event));
        }
    })?;
    closed?;
    match outcome {
        Outcome::Interrupted => Err(Failure::Interrupted(format!(
            "interrupted; the run is saved in {}; go on with the same command and --resume",
            name(&args.out)
        ))),
        Outcome::Finished | Outcome::OutOfPatience => Ok(()),
    }
}

/// A flag that Ctrl-C or a request to terminate raises; a second Ctrl-C ends the program at once.
pub(super) fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    let handler = move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|e| Failure::Failed(format!("cannot listen for Ctrl-C: {e}")))?;
    Ok(stop)
}

fn model_config(args: &Train, vocab: usize) -> ModelConfig {
    match args.model {
        Model::Gpt2 => ModelConfig::Gpt2(Gpt2Config {
            vocab,
            context: args.context,
            layers: args.layers.unwrap_or(4),
            heads: args.heads,
            width: args.width.unwrap_or(128),
        }),
        Model::Lstm => ModelConfig::Lstm(LstmConfig {
            vocab,
            embed: args.embed,
            hidden: args.width.unwrap_or(256),
            layers: args.layers.unwrap_or(2),
            tied: args.tied,
        }),
    }
}

fn train_options(cli: &Cli, args: &Train) -> TrainOptions {
    use penwright::train::Schedule as Form;
    let lstm = args.model == Model::Lstm;
    TrainOptions {
        length: match (args.budget, args.epochs) {
            (Some(budget), _) => Length::Budget(budget),
            (None, Some(epochs)) => Length::Epochs(epochs),
            (None, None) => Length::Steps(args.steps.unwrap_or(2000)),
        },
        batch: args.batch.unwrap_or(if lstm { 32 } else { 12 }),
        context: args.context,
        lr: args.lr.unwrap_or(if lstm { 3e-3 } else { 1e-3 }),
        schedule: match args.schedule {
            Schedule::Cosine => Form::Cosine,
            Schedule::Wsd => Form::Wsd,
            Schedule::Constant => Form::Constant,
        },
        warmup: args.warmup,
        weight_decay: args.weight_decay.unwrap_or(if lstm { 0.01 } else { 0.1 }),
        clip: args.clip,
        dropout: args.dropout.unwrap_or(if lstm { 0.2 } else { 0.0 }),
        seed: args.seed,
        accumulate: args.accumulate,
        eval_every: args.eval_every,
        sample_every: match (cli.quiet || cli.json, args.sample_every) {
            (_, Some(every)) => Some(every),
            (quiet, None) => quiet.then_some(0),
        },
        patience: args.patience,
        checkpoint_every: args.checkpoint_every,
        resume: args.resume,
    }
}

fn progress_line(event: &Event) -> String {
    match event {
        Event::Plan { params, train_tokens, val_tokens, memory_bytes, resumed_at, .. } => {
            let resumed = if *resumed_at > 0 { format!("; going on from step {resumed_at}") } else { String::new() };
            let memory = penwright::error::bytes(*memory_bytes);
            format!(
                "{params} parameters; {train_tokens} tokens to train on, {val_tokens} to validate on; {memory} of memory{resumed}"
            )
        }
        Event::Sample { text, .. } => text.lines().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n"),
        Event::Step { step, elapsed_s, train_loss, lr, tokens_per_s, .. } => {
            format!("step {step:>6}  {elapsed_s:>7.1} s  loss {train_loss:.4}  lr {lr:.2e}  {tokens_per_s:.0} tokens/s")
        }
        Event::Eval { step, elapsed_s, val_loss, val_bits_per_char } => {
            format!(
                "step {step:>6}  {elapsed_s:>7.1} s  validation {val_loss:.4}  ({val_bits_per_char:.4} bits per character)"
            )
        }
        Event::Done { run, reason, steps, elapsed_s, best_val_loss, .. } => {
            let best = best_val_loss.map_or("not validated yet".into(), |loss| format!("best validation {loss:.4}"));
            format!("{reason}: {steps} steps in {elapsed_s:.1} s, {best}; the run is in {run}")
        }
    }
}
