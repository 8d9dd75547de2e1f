//! Training: batches, loss, gradients, optimizer, validation, best weights, checkpoints.

mod batches;
mod checkpoint;
mod event;
mod metrics;
mod optimizer;
mod options;
mod schedule;
mod trainer;

pub use batches::Batches;
pub use event::Event;
pub use metrics::read_metrics;
pub use optimizer::{AdamW, global_norm};
pub use options::{Length, TrainOptions};
pub use schedule::Schedule;
pub use trainer::{Outcome, Texts, train};

use crate::tokenizer::Tokenizer;

/// Documents as one stream of tokens, each begun by the end-of-text token.
pub fn token_stream(tokenizer: &Tokenizer, texts: &[&str]) -> Vec<u32> {
    texts.iter().flat_map(|text| std::iter::once(tokenizer.eot()).chain(tokenizer.encode(text))).collect()
}
