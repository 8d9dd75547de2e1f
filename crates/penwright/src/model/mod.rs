//! The models, behind one trait: generation, evaluation, comparison and serving are written once against it.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use penwright_kernels::{chunks, chunks_mut, each, fast_bf16, tempered_losses};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

mod adaptation;
mod decode;
mod gpt2;
mod lstm;
mod ngram;
mod params;
#[cfg(test)]
mod tests;

pub use adaptation::{Adaptation, Dynamic, NeuralCache};
pub(crate) use decode::log_softmax_rows;
pub use decode::{DecodePrecision, keep_likeliest};
pub use gpt2::{Frozen, Gpt2, Gpt2Config, Lora, LoraConfig, Tuning};
pub use lstm::{FORGET_BIAS, Lstm, LstmConfig, Regularization};
pub(crate) use ngram::Context;
pub use ngram::{MAX_ORDER, Ngram, NgramConfig};
pub use params::{Params, Tensor, Values};

use crate::layers::Dropout;

/// Which family a model belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Interpolated modified Kneser–Ney.
    Ngram,
    /// Long short-term memory, recurrent.
    Lstm,
    /// GPT-2, a decoder transformer.
    Gpt2,
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ModelKind::Ngram => "ngram",
            ModelKind::Lstm => "lstm",
            ModelKind::Gpt2 => "gpt2",
        })
    }
}

/// How likely a model found one token of a text, given all before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// Natural logarithm of the token's probability; always finite.
    pub log_prob: f32,
    /// Whether the token was the model's likeliest.
    pub top1: bool,
}

/// A trained language model: token ids in, natural-log probabilities of the next token out.
///
/// A text begins with the tokenizer's end-of-text token as its context (see
/// [`Tokenizer::eot`](crate::tokenizer::Tokenizer::eot)), so that its first token has a likelihood too.
pub trait LanguageModel: Send + Sync {
    /// The family.
    fn kind(&self) -> ModelKind;

    /// Number of token ids; every id is below it.
    fn vocab_size(&self) -> usize;

    /// The longest past the model can look back on, in tokens; `None` when a recurrent state has no bound.
    fn context(&self) -> Option<usize>;

    /// Number of parameters (for an n-gram model, of stored counts).
    fn num_params(&self) -> u64;

    /// The LSTM behind it, if it is one, in whatever precision it writes: to look inside.
    fn as_lstm(&self) -> Option<&Lstm> {
        None
    }

    /// The GPT-2 behind it, likewise.
    fn as_gpt2(&self) -> Option<&Gpt2> {
        None
    }

    /// Starts a decoding session of `streams` independent texts, all empty, in [`DecodePrecision::Auto`].
    ///
    /// # Errors
    /// When its memory cannot be had.
    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>>;

    /// The same model with its weights as `precision` stores them, made once for all its sessions; it scores by the
    /// arithmetic of its sessions. An n-gram model takes no notice.
    ///
    /// # Errors
    /// When the memory for the weights cannot be had.
    fn with_precision(self: Arc<Self>, precision: DecodePrecision) -> Result<Arc<dyn LanguageModel>>;

    /// Scores `tokens[1..]`, each given all before it; `tokens[0]` is context only (the end-of-text token).
    ///
    /// A GPT-2 scores consecutive windows of its context length, or windows that slide by `stride` tokens and
    /// count only what is new in each; other models carry their state through the whole text and take no
    /// notice of `stride`. `sink` receives the scores in order, in batches.
    ///
    /// # Errors
    /// When its memory cannot be had, or `sink` returns an error (passed on).
    fn score(
        &self,
        tokens: &[u32],
        stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()>;

    /// [`LanguageModel::score`] by an LSTM that follows the text ([`Adaptation`]).
    ///
    /// # Errors
    /// When the model is none or a setting cannot work; else as [`LanguageModel::score`].
    fn score_adapting(
        &self,
        _tokens: &[u32],
        _adaptation: &Adaptation,
        _sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        let what = "the neural cache and dynamic evaluation are for an LSTM with its weights as they were trained";
        Err(Error::Unsupported(format!("{what}; leave out --cache and --dynamic, or --precision")))
    }
}

/// A model whose gradients are known: what the trainer needs beside [`LanguageModel`].
pub trait Trainable: LanguageModel {
    /// The weights.
    fn params(&self) -> &Params;

    /// The weights, to be updated.
    fn params_mut(&mut self) -> &mut Params;

    /// Forward and backward over `batch` texts of `tokens.len() / batch` tokens each: adds the gradients of the
    /// mean loss to `grads`, or overwrites what was there when they are `fresh`, and returns that loss in nats a token. A recurrent model carries its state on from
    /// the call before (the streams continue) until [`Trainable::reset_stream`].
    fn train_step(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        batch: usize,
        grads: &mut [f32],
        fresh: bool,
        dropout: Dropout,
    ) -> f64;

    /// Chooses what training and validation multiply.
    fn set_precision(&mut self, precision: Precision);

    /// Whether a step keeps little of what it computes for the backward and computes the rest once more: less memory,
    /// more time, the same results. Without effect on a model that cannot.
    fn checkpoint_activations(&mut self, _on: bool) {}

    /// Chooses how an LSTM is regularised beside [`Dropout`]'s rate; without effect on another model.
    fn regularize(&mut self, _regularization: &Regularization) {}

    /// Forgets the carried state of one stream.
    fn reset_stream(&mut self, stream: usize);

    /// The state carried from step to step, flat; empty for a model that has none or has just begun.
    fn carried(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Takes up a carried state; false when it cannot be one of this model.
    fn set_carried(&mut self, carried: &[f32]) -> bool {
        carried.is_empty()
    }

    /// The mean loss over a text in nats a token, for watching training; that of [`LanguageModel::score`] but for what
    /// a recurrent model knows of tokens hundreds of places back, where it reads parts of the text side by side.
    ///
    /// # Errors
    /// As [`LanguageModel::score`].
    fn validate(&self, tokens: &[u32]) -> Result<f64> {
        Ok(self.validate_at(tokens, &[1.0])?[0])
    }

    /// [`validate`](Self::validate) with the logits divided by each of `temperatures`.
    ///
    /// # Errors
    /// As [`LanguageModel::score`].
    fn validate_at(&self, tokens: &[u32], temperatures: &[f32]) -> Result<Vec<f64>>;

    /// Tokens from which on [`validate`](Self::validate) takes as long for each token as for a text of any length; a
    /// shorter text takes longer for each.
    fn evenly_validated_from(&self) -> usize {
        0
    }

    /// The parts of the weights that all logits are proportional to, once each; none where there are no such parts, as in
    /// an LSTM whose output layer is its embedding.
    fn logit_scales(&self) -> Vec<Range<usize>> {
        Vec::new()
    }

    /// A copy of the model as it is now, to write with.
    fn snapshot(&self) -> Arc<dyn LanguageModel>;

    /// Seals the model for use: shared weights, no gradients.
    fn into_model(self: Box<Self>) -> Arc<dyn LanguageModel>;
}

/// The mean of [`LanguageModel::score`]: nats a token and the share of tokens that were the model's likeliest.
///
/// # Errors
/// As [`LanguageModel::score`].
pub fn mean_score(model: &dyn LanguageModel, tokens: &[u32], stride: Option<usize>) -> Result<(f64, f64)> {
    mean_of(|sink| model.score(tokens, stride, sink))
}

/// The mean of [`LanguageModel::score_adapting`], likewise.
///
/// # Errors
/// As [`LanguageModel::score_adapting`].
pub fn mean_adapted_score(model: &dyn LanguageModel, tokens: &[u32], adaptation: &Adaptation) -> Result<(f64, f64)> {
    mean_of(|sink| model.score_adapting(tokens, adaptation, sink))
}

/// The same of scores by any way.
fn mean_of(score: impl FnOnce(&mut dyn FnMut(&[TokenScore]) -> Result<()>) -> Result<()>) -> Result<(f64, f64)> {
    let (mut nats, mut hits, mut count) = (0.0, 0usize, 0usize);
    score(&mut |scores| {
        for score in scores {
            nats -= f64::from(score.log_prob);
            hits += usize::from(score.top1);
        }
        count += scores.len();
        Ok(())
    })?;
    let count = count.max(1) as f64;
    Ok((nats / count, hits as f64 / count))
}

/// What training multiplies. Weights, moments, norms, softmax and all sums are f32 in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bfloat16, up to twice as fast where the processor multiplies it well.
    Bf16,
}

impl Precision {
    /// The faster one on this processor.
    pub fn fastest() -> Self {
        if fast_bf16() { Precision::Bf16 } else { Precision::F32 }
    }
}

/// Working memory of a model, of whichever kind of number it was last; a copy begins empty.
#[derive(Default)]
struct Memory(Option<Box<dyn Any + Send + Sync>>);

impl Memory {
    /// Takes the memory out, new if it is of another kind.
    fn take<T: Any + Default>(&mut self) -> Box<T> {
        self.0.take().and_then(|memory| (memory as Box<dyn Any>).downcast().ok()).unwrap_or_default()
    }

    fn keep<T: Any + Send + Sync>(&mut self, memory: Box<T>) {
        self.0 = Some(memory);
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Memory::default()
    }
}

fn check_tokens(tokens: &[u32], vocab: usize) -> Result<()> {
    match tokens.iter().find(|&&t| t as usize >= vocab) {
        Some(t) => {
            Err(Error::Text(format!("token {t} is not in the model's vocabulary of {vocab}; use its own tokenizer")))
        }
        None => Ok(()),
    }
}

/// Rows of logits that a thread scores at a time.
const SCORED_ROWS: usize = 8;

/// Turns rows of logits into scores of the targets, on all threads.
fn scores_of(logits: &mut [f32], targets: &[u32], vocab: usize) -> Vec<TokenScore> {
    let mut scores = vec![TokenScore { log_prob: 0.0, top1: false }; targets.len()];
    let parts =
        (chunks_mut(logits, SCORED_ROWS * vocab), chunks(targets, SCORED_ROWS), chunks_mut(&mut scores, SCORED_ROWS));
    each(parts, |_, (logits, targets, scores)| {
        for ((row, &target), score) in logits.chunks_exact_mut(vocab).zip(targets).zip(scores) {
            crate::layers::log_softmax(row);
            let log_prob = row[target as usize];
            *score = TokenScore { log_prob, top1: row.iter().all(|&x| x <= log_prob) };
        }
    });
    scores
}

/// The losses of the targets of rows of logits in nats, `[targets, temperatures]`, the logits divided by each of them; on all
/// threads.
fn losses_of(logits: &[f32], targets: &[u32], vocab: usize, temperatures: &[f32]) -> Vec<f32> {
    let mut losses = vec![0.0; targets.len() * temperatures.len()];
    let parts = (
        chunks(logits, SCORED_ROWS * vocab),
        chunks(targets, SCORED_ROWS),
        chunks_mut(&mut losses, SCORED_ROWS * temperatures.len()),
    );
    each(parts, |_, (logits, targets, losses)| {
        let rows = logits.chunks_exact(vocab).zip(targets).zip(losses.chunks_exact_mut(temperatures.len()));
        for ((row, &target), losses) in rows {
            tempered_losses(row, target as usize, temperatures, losses);
        }
    });
    losses
}

/// Adds the losses of one target at several temperatures to their sums.
fn add_losses(sums: &mut [f64], losses: &[f32]) {
    sums.iter_mut().zip(losses).for_each(|(sum, &loss)| *sum += f64::from(loss));
}

/// The state of several texts being written at once (recurrent states, or key–value caches).
///
/// No past token is ever computed again, except where a GPT-2 slides past its context.
pub trait Session: Send {
    /// Number of streams.
    fn streams(&self) -> usize;

    /// Bytes of memory that one stream takes at most, beside what all share.
    fn stream_bytes(&self) -> u64 {
        0
    }

    /// Appends `tokens` to one stream (a prompt).
    ///
    /// # Errors
    /// When a token is not in the vocabulary.
    fn feed(&mut self, stream: usize, tokens: &[u32]) -> Result<()>;

    /// As [`Session::feed`] for several streams, in one pass where the model can: `tokens[i]` to stream `streams[i]`.
    /// No stream may be named twice.
    ///
    /// # Errors
    /// When a token is not in the vocabulary.
    fn feed_together(&mut self, streams: &[usize], tokens: &[&[u32]]) -> Result<()> {
        streams.iter().zip(tokens).try_for_each(|(&stream, tokens)| self.feed(stream, tokens))
    }

    /// Appends one token to each of the named streams, as one batch: `tokens[i]` to stream `streams[i]`.
    /// No stream may be named twice.
    ///
    /// # Errors
    /// When a token is not in the vocabulary.
    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()>;

    /// Natural-log probabilities of the stream's next token, `[vocab_size]`; all finite.
    /// Valid after at least one token was fed.
    fn log_probs(&self, stream: usize) -> &[f32];

    /// Tokens that [`Session::step_ahead`] can read ahead in a stream after its next token; 0 of a session that cannot
    /// go back.
    fn room_ahead(&self, _stream: usize) -> usize {
        0
    }

    /// About what it costs to read one token ahead, as a part of what a step of one stream costs.
    fn cost_ahead(&self) -> f32 {
        1.0
    }

    /// As [`Session::step`], and reads the tokens `drafts[i]` ahead in stream `streams[i]`, no more than there is room
    /// for. [`Session::log_probs`] are those before the draft. Each of the streams must be [kept](Session::keep) before
    /// anything else is done with it.
    ///
    /// # Errors
    /// When a token is not in the vocabulary.
    fn step_ahead(&mut self, streams: &[usize], tokens: &[u32], _drafts: &[&[u32]]) -> Result<()> {
        self.step(streams, tokens)
    }

    /// The log-probabilities of a stream after the first `n` tokens that it has read ahead, to the bit those that single
    /// steps would give; of 0, and where nothing was read ahead, [`Session::log_probs`].
    fn log_probs_ahead(&self, stream: usize, _n: usize) -> &[f32] {
        self.log_probs(stream)
    }

    /// The stream goes on after the first `n` tokens that it has read ahead; the others were never read.
    fn keep(&mut self, _stream: usize, _n: usize) {}

    /// Makes stream `to` a copy of stream `from`.
    fn copy(&mut self, from: usize, to: usize);

    /// Makes every stream `i` a copy of what stream `parents[i]` was before the call (beam search).
    fn select(&mut self, parents: &[usize]);

    /// Empties one stream.
    fn reset(&mut self, stream: usize);
}
