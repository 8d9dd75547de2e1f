//! An n-gram language model: interpolated modified Kneser–Ney smoothing (Chen and Goodman 1999).
//!
//! With `a(c w)` the adjusted count of the n-gram `c w` and `c'` the context `c` without its first token:
//!
//! ```text
//! p(w | c) = (a(c w) − D(a(c w))) / Σ_v a(c v)  +  γ(c) p(w | c')
//! γ(c)     = (D1 N1(c) + D2 N2(c) + D3 N3+(c)) / Σ_v a(c v)      N_i(c): how many w have a(c w) = i
//! p(w)     = (a(w) − D(a(w))) / Σ_v a(v)         +  γ / V         the lowest order, over V token ids
//! ```
//!
//! At the highest order, and for n-grams that begin with the end-of-text token (nothing stands before it), `a` is how
//! often the n-gram occurs; otherwise how many different tokens stand before it. The discounts of each order are
//! estimated from its counts of counts (`build.rs`).
//!
//! Documents are begun by the end-of-text token. No context reaches back beyond it; it is itself predicted as the end
//! of the document before, except at the very beginning of the stream.

mod build;
mod file;
mod likeliest;
mod session;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DecodePrecision, LanguageModel, ModelKind, Session, TokenScore, check_tokens};
use crate::{Error, Result, tokenizer};
use session::NgramSession;

/// The longest n-grams that a model can have.
pub const MAX_ORDER: usize = 12;

/// The shape of an n-gram model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NgramConfig {
    /// Number of token ids, V.
    pub vocab: usize,
    /// Length of the longest n-grams: each token is predicted from `order - 1` before it. At most [`MAX_ORDER`].
    pub order: usize,
}

impl NgramConfig {
    /// The order that serves a text of a book's length best, by the unit of its tokens.
    pub fn default_order(level: tokenizer::Level) -> usize {
        match level {
            tokenizer::Level::Char => 7,
            _ => 5,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=MAX_ORDER).contains(&self.order) {
            let problem = format!("{} is not possible; choose 1 to {MAX_ORDER}", self.order);
            return Err(Error::setting("order", problem));
        }
        if self.vocab == 0 || self.vocab > 1 << 24 {
            return Err(Error::Text(format!("a vocabulary of {} tokens is not possible", self.vocab)));
        }
        Ok(())
    }
}

/// All n-grams of one length k, sorted: first by their first k − 1 tokens (their parent, an n-gram of the level below),
/// then by their last.
#[derive(Clone, Debug, Default, PartialEq)]
struct Level {
    /// Last tokens.
    token: Vec<u32>,
    /// p(last token | the tokens before it), interpolated.
    prob: Vec<f32>,
    /// γ of the n-gram as a context, 1 where nothing follows it. Empty at the highest order.
    backoff: Vec<f32>,
    /// Where the n-grams that continue this one begin in the level above, and at last their number. Empty at the
    /// highest order.
    children: Vec<u32>,
}

impl Level {
    fn children(&self, node: u32) -> Range<usize> {
        self.children[node as usize] as usize..self.children[node as usize + 1] as usize
    }
}

/// A trained n-gram model: for each length a sorted array of n-grams, together a trie. 16 bytes an n-gram, 8 at the
/// highest order.
#[derive(Debug)]
pub struct Ngram {
    config: NgramConfig,
    eot: u32,
    /// Of lengths 1 (every token id), 2, …, order.
    levels: Vec<Level>,
    /// D1, D2 and D3+ of each order.
    discounts: Vec<[f32; 3]>,
    /// ln p(w), `[V]`.
    unigrams: Vec<f32>,
    /// The largest p(w).
    best: f64,
}

/// The ends of a text that the model knows as contexts: `nodes[k]` is the n-gram of the last k + 1 tokens. When one is
/// unknown, all longer ones are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context {
    nodes: [u32; MAX_ORDER],
    len: usize,
}

impl Context {
    fn push(&mut self, node: u32) {
        self.nodes[self.len] = node;
        self.len += 1;
    }
}

impl Ngram {
    /// Estimates a model from documents, each begun by the token `eot`, in one stream. The same for any number of
    /// threads. Memory on the way: about 8 bytes a token and twice the largest level beside the model itself.
    ///
    /// # Errors
    /// When the order is not possible, the stream does not begin with `eot`, holds nothing to predict or ids outside
    /// the vocabulary, or when memory is short.
    pub fn train(config: NgramConfig, tokens: &[u32], eot: u32) -> Result<Ngram> {
        config.check()?;
        check_tokens(tokens, config.vocab)?;
        let (levels, discounts) = build::levels(&config, tokens, eot)?;
        Ok(Self::assemble(config, eot, levels, discounts))
    }

    fn assemble(config: NgramConfig, eot: u32, levels: Vec<Level>, discounts: Vec<[f32; 3]>) -> Ngram {
        let unigrams: Vec<f32> = levels[0].prob.iter().map(|&p| f64::from(p).ln() as f32).collect();
        let best = f64::from(largest(&levels[0].prob));
        Ngram { config, eot, levels, discounts, unigrams, best }
    }

    /// The shape.
    pub fn config(&self) -> &NgramConfig {
        &self.config
    }

    /// The discounts D1, D2 and D3+ of the orders from 1 on.
    pub fn discounts(&self) -> &[[f32; 3]] {
        &self.discounts
    }

    /// How many different n-grams of each length from 1 on are stored; of length 1 every token id.
    pub fn counts(&self) -> Vec<usize> {
        self.levels.iter().map(|level| level.token.len()).collect()
    }

    /// p(token | context), and the context after it. One search for each length of the context serves both.
    fn step(&self, context: &Context, token: u32) -> (f64, Context) {
        let mut next = Context::default();
        let mut prob = self.levels[0].prob[token as usize];
        let mut known = 0;
        if self.config.order > 1 {
            next.push(token);
        }
        for (k, &node) in context.nodes[..context.len].iter().enumerate() {
            let (children, above) = (self.levels[k].children(node), &self.levels[k + 1]);
            let Ok(place) = above.token[children.clone()].binary_search(&token) else { break };
            let child = children.start + place;
            prob = above.prob[child];
            known = k + 1;
            if token != self.eot && known + 1 < self.config.order {
                next.push(child as u32);
            }
        }
        let mut prob = f64::from(prob);
        for (k, &node) in context.nodes[..context.len].iter().enumerate().skip(known) {
            prob *= f64::from(self.levels[k].backoff[node as usize]);
        }
        (prob, next)
    }

    /// The largest p(w | context) of all w. What a context's own n-grams do not say is γ times the shorter context's,
    /// and what they say is never below that (the discounted count is added to it): the best of both is exact.
    fn best(&self, context: &Context) -> f64 {
        let mut best = self.best;
        for (k, &node) in context.nodes[..context.len].iter().enumerate() {
            let own = largest(&self.levels[k + 1].prob[self.levels[k].children(node)]);
            best = (best * f64::from(self.levels[k].backoff[node as usize])).max(f64::from(own));
        }
        best
    }

    /// ln p(w | context) of all w, `[V]`: the lowest order's scaled, then overwritten by ever longer contexts'.
    fn distribution(&self, context: &Context, out: &mut [f32]) {
        let mut scales = [0.0; MAX_ORDER + 1];
        for k in (0..context.len).rev() {
            scales[k] = scales[k + 1] + f64::from(self.levels[k].backoff[context.nodes[k] as usize]).ln();
        }
        for (out, &log_prob) in out.iter_mut().zip(&self.unigrams) {
            *out = (scales[0] + f64::from(log_prob)) as f32;
        }
        for (k, &node) in context.nodes[..context.len].iter().enumerate() {
            let (children, above) = (self.levels[k].children(node), &self.levels[k + 1]);
            for (&token, &prob) in above.token[children.clone()].iter().zip(&above.prob[children]) {
                out[token as usize] = (scales[k + 1] + f64::from(prob).ln()) as f32;
            }
        }
    }

    /// Scores `tokens[start..end]`.
    fn score_part(&self, tokens: &[u32], Range { start, end }: Range<usize>) -> Vec<TokenScore> {
        let mut context = Context::default();
        for &token in &tokens[start.saturating_sub(self.config.order - 1)..start] {
            context = self.step(&context, token).1;
        }
        let mut scores = Vec::with_capacity(end - start);
        for &token in &tokens[start..end] {
            let (prob, next) = self.step(&context, token);
            // Equal but for the rounding of the stored values is equal.
            let top1 = prob * (1.0 + 4e-7) >= self.best(&context);
            scores.push(TokenScore { log_prob: prob.max(f64::MIN_POSITIVE).ln() as f32, top1 });
            context = next;
        }
        scores
    }
}

/// The largest of some probabilities, zero of none.
fn largest(probs: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let (chunks, rest) = probs.as_chunks::<8>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &p)| *lane = if p > *lane { p } else { *lane });
    }
    lanes.iter().chain(rest).fold(0.0, |best, &p| best.max(p))
}

impl LanguageModel for Ngram {
    fn kind(&self) -> ModelKind {
        ModelKind::Ngram
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab
    }

    fn context(&self) -> Option<usize> {
        Some(self.config.order - 1)
    }

    fn num_params(&self) -> u64 {
        self.levels.iter().map(|level| level.token.len() as u64).sum()
    }

    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(NgramSession::new(self, streams)?))
    }

    fn with_precision(self: Arc<Self>, _: DecodePrecision) -> Result<Arc<dyn LanguageModel>> {
        Ok(self)
    }

    fn score(
        &self,
        tokens: &[u32],
        _stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        const PART: usize = 1 << 12;
        const BATCH: usize = 1 << 16;
        check_tokens(tokens, self.config.vocab)?;
        for batch in (1..tokens.len()).step_by(BATCH) {
            let end = (batch + BATCH).min(tokens.len());
            let starts: Vec<usize> = (batch..end).step_by(PART).collect();
            let parts: Vec<_> =
                starts.par_iter().map(|&start| self.score_part(tokens, start..(start + PART).min(end))).collect();
            parts.iter().try_for_each(|scores| sink(scores))?;
        }
        Ok(())
    }
}
