//! Training: batches, loss, gradients, optimizer, validation, best weights, checkpoints.

mod batches;
mod budget;
mod checkpoint;
mod cutting;
mod data;
mod defaults;
mod event;
mod job;
mod lengths;
mod metrics;
mod ngram;
mod optimizer;
mod options;
mod recipe;
mod schedule;
mod settings;
mod start;
mod trainer;
mod validation;

use budget::measure;

pub use batches::Batches;
pub use data::Data;
pub use event::Event;
pub use job::{Job, Plan, Preparing};
pub(crate) use metrics::append;
pub use metrics::read_metrics;
pub use optimizer::{
    AdamW, Average, Averaging, MUON_ITERATIONS, Muon, Optimizer, OptimizerKind, Sgd, Validations, global_norm,
    optimizer,
};
pub use options::{Length, TrainOptions};
pub use schedule::{LR_DECAY, Schedule};
pub use settings::{Precision, SETTINGS, Settings};
pub use start::{Base, Start};
pub use trainer::{Outcome, train};

use crate::tokenizer::Tokenizer;

/// Documents as one stream of tokens, each begun by the end-of-text token.
pub fn token_stream(tokenizer: &Tokenizer, texts: &[&str]) -> Vec<u32> {
    texts.iter().flat_map(|text| std::iter::once(tokenizer.eot()).chain(tokenizer.encode(text))).collect()
}
