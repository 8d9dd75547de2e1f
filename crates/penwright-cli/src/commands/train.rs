//! `penwright train`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use penwright::corpus::{self, Document};
use penwright::model::{Gpt2Config, LstmConfig};
use penwright::run::ModelConfig;
use penwright::tokenizer::Tokenizer;
use penwright::train::{Length, Outcome, Texts, TrainOptions, read_metrics, train};

use super::{Failure, name, texts};
use crate::args::{Cli, Model, Schedule, Train};
use crate::live::{self, Status};
use crate::progress::Progress;

pub(super) fn run(cli: &Cli, args: &Train) -> Result<(), Failure> {
    let reading = Status::new(cli, "Reading the texts");
    let documents = corpus::read(&args.text)?;
    let held_out: Vec<Document>;
    let (training, validation) = match &args.val {
        Some(path) => {
            reading.set(1, 2);
            held_out = corpus::read(std::slice::from_ref(path))?;
            (texts(&documents), texts(&held_out))
        }
        None => corpus::split(&documents, args.val_fraction)?,
    };
    drop(reading);
    let tokenizer = Tokenizer::train(args.level.into(), &training);
    let config = model_config(args, tokenizer.vocab_size());
    let options = train_options(cli, args);
    let stop = stop_on_interrupt()?;
    let texts = Texts { train: &training, val: &validation };
    let record = if args.resume { read_metrics(&args.out).unwrap_or_default() } else { Vec::new() };
    let mut progress = Progress::new(cli, &name(&args.out), args.budget, &record, &stop);
    let outcome = train(&config, &tokenizer, texts, &options, &args.out, &stop, &mut |event| progress.on_event(event));
    let written = progress.finish();
    let outcome = outcome?;
    written?;
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
            live::restore();
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
