//! What is compared, and what the record of its training tells.

use std::path::Path;
use std::sync::Arc;

use crate::model::LanguageModel;
use crate::report::tensorboard;
use crate::run::Run;
use crate::tokenizer::Tokenizer;
use crate::train::{Event, read_metrics};
use crate::{Error, Result};

/// Files of a run directory that the model does not need in order to write.
const RECORDS: [&str; 6] =
    ["metrics.jsonl", "checkpoint.safetensors", "penwright.toml", "report.html", "samples.txt", "README.md"];

/// A model that takes part in a comparison.
#[derive(Clone)]
pub struct Contender {
    /// Its name, as a rule the run directory.
    pub name: String,
    /// The model.
    pub model: Arc<dyn LanguageModel>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The record of its training; empty when there is none.
    pub metrics: Vec<Event>,
    /// Bytes of the files that the model is.
    pub size_bytes: u64,
    /// The texts it was trained on; empty when they are not known.
    pub training: Vec<Arc<str>>,
}

impl Contender {
    /// Opens a run directory. A record of training that is missing is no error.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open(dir: &Path, training: Vec<Arc<str>>) -> Result<Self> {
        let run = Run::open(dir)?;
        Ok(Contender {
            name: dir.display().to_string(),
            model: run.model,
            tokenizer: run.tokenizer,
            metrics: read_metrics(dir).unwrap_or_default(),
            size_bytes: run_size(dir)?,
            training,
        })
    }

    pub(super) fn history(&self) -> History {
        History::of(&self.metrics)
    }
}

/// Bytes of a run directory's files that are needed to write with it: weights, configuration, tokenizer.
///
/// # Errors
/// When the directory cannot be read.
pub fn run_size(dir: &Path) -> Result<u64> {
    let read = || -> std::io::Result<u64> {
        if dir.is_file() {
            return Ok(dir.metadata()?.len());
        }
        let mut sum = 0;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let (name, data) = (entry.file_name(), entry.metadata()?);
            if data.is_file() && !RECORDS.iter().any(|record| name == *record) && !tensorboard::is_ours(&name) {
                sum += data.len();
            }
        }
        Ok(sum)
    };
    read().map_err(Error::io("read", dir))
}

/// One validation of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Seconds since training began.
    pub seconds: f64,
    /// Floating-point operations so far; `None` where the record does not tell.
    pub flops: Option<f64>,
    /// Bits a character of the run's own validation text.
    pub bits_per_char: f64,
}

/// What the record of a run tells; nothing where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    pub(super) seconds: Option<f64>,
    pub(super) flops: Option<f64>,
    /// Steps and tokens.
    pub(super) trained: Option<(u64, u64)>,
    pub(super) curve: Vec<CurvePoint>,
}

impl History {
    fn of(events: &[Event]) -> Self {
        let (mut history, mut per_token) = (History::default(), None);
        for event in events {
            match event {
                Event::Plan { flops_per_token, .. } => per_token = Some(*flops_per_token),
                Event::Step { step, tokens, elapsed_s, .. } => {
                    (history.seconds, history.trained) = (Some(*elapsed_s), Some((*step, *tokens)));
                }
                Event::Done { steps, tokens, elapsed_s, .. } => {
                    (history.seconds, history.trained) = (Some(*elapsed_s), Some((*steps, *tokens)));
                }
                _ => {}
            }
        }
        let per_token = per_token.filter(|flops: &f64| flops.is_finite() && *flops >= 0.0);
        let per_step =
            history.trained.filter(|(steps, _)| *steps > 0).map(|(steps, tokens)| tokens as f64 / steps as f64);
        history.flops = per_token.zip(history.trained).map(|(flops, (_, tokens))| flops * tokens as f64);
        history.curve = events
            .iter()
            .filter_map(|event| match event {
                Event::Eval { step, elapsed_s, val_bits_per_char, .. } => Some(CurvePoint {
                    seconds: *elapsed_s,
                    flops: per_token.zip(per_step).map(|(flops, tokens)| flops * tokens * *step as f64),
                    bits_per_char: *val_bits_per_char,
                }),
                _ => None,
            })
            .filter(|point| point.bits_per_char.is_finite() && point.seconds.is_finite())
            .collect();
        history
    }
}
