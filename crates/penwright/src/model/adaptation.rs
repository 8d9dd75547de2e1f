//! How a model may follow the text that it is scored on: what it is asked before each token, it may learn from after
//! it.

use crate::{Error, Result};

/// What an LSTM may do with the text that it is scored on. Nothing is left of it afterwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adaptation {
    /// A cache of what came lately.
    pub cache: Option<NeuralCache>,
    /// Learning on.
    pub dynamic: Option<Dynamic>,
}

/// The neural cache (Grave, Joulin and Usunier 2017, arXiv 1612.04426):
///
/// ```text
/// p_cache(w) ∝ Σ_{i<t} exp(θ h_t · h_i) [x_{i+1} = w]      the last `size` of the i
/// p(w)       = (1 − λ) p_model(w) + λ p_cache(w)
/// ```
///
/// with the outputs h of the last layer. Before the second token the cache is empty, and p the model's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeuralCache {
    /// Tokens that are looked back on.
    pub size: usize,
    /// How sharply the cache prefers outputs like the present one, θ.
    pub theta: f32,
    /// The cache's part of the probability, λ.
    pub lambda: f32,
}

impl NeuralCache {
    /// The largest cache.
    pub const LARGEST: usize = 1 << 16;
}

/// Dynamic evaluation (Krause, Kahembwe, Murray and Renals 2018, arXiv 1709.07432): after each segment of the text a
/// step on the weights θ down its gradient, and some of the way back to where they came from, θ₀:
///
/// ```text
/// SGD   θ ← θ − η ∇ + λ (θ₀ − θ)
/// RMS   θ ← θ − η ∇ / (√MS + ε) + λ r ⊙ (θ₀ − θ)      r = √MS / mean(√MS), at most 1 / λ
/// ```
///
/// MS is the mean square of each weight's gradient over the training text, in batches of 100 streams of a segment each.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    /// Learning rate, η.
    pub lr: f32,
    /// How strongly the weights are drawn back, λ.
    pub decay: f32,
    /// Tokens of a segment.
    pub segment: usize,
    /// ε of the RMS variant.
    pub epsilon: f32,
    /// The training text's tokens for the RMS variant; without, it is SGD.
    pub training: Option<Vec<u32>>,
}

impl Dynamic {
    /// ε as the authors have it.
    pub const EPSILON: f32 = 2e-5;
}

impl Adaptation {
    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.cache.is_some() || self.dynamic.is_some()
    }

    /// # Errors
    /// When a value cannot work; the sentence names its flag.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |flag, problem: String| Err(Error::setting(flag, problem));
        if let Some(cache) = &self.cache {
            if !(1..=NeuralCache::LARGEST).contains(&cache.size) {
                return wrong("cache", format!("{} is not between 1 and {}", cache.size, NeuralCache::LARGEST));
            }
            if !(cache.theta >= 0.0 && cache.theta.is_finite()) {
                return wrong("cache-theta", format!("{} is not a number from 0 up", cache.theta));
            }
            if !(0.0..1.0).contains(&cache.lambda) {
                return wrong("cache-lambda", format!("{} is not at least 0 and below 1", cache.lambda));
            }
        }
        if let Some(dynamic) = &self.dynamic {
            if !(dynamic.lr > 0.0 && dynamic.lr.is_finite()) {
                return wrong("dynamic", format!("{} is not a positive number", dynamic.lr));
            }
            if !(0.0..=1.0).contains(&dynamic.decay) {
                return wrong("dynamic-decay", format!("{} is not between 0 and 1", dynamic.decay));
            }
            if !(1..=1 << 16).contains(&dynamic.segment) {
                return wrong("dynamic-segment", format!("{} is not between 1 and {}", dynamic.segment, 1 << 16));
            }
            if !(dynamic.epsilon > 0.0 && dynamic.epsilon.is_finite()) {
                return wrong("dynamic", format!("an epsilon of {} is not a positive number", dynamic.epsilon));
            }
            if dynamic.training.as_ref().is_some_and(|tokens| tokens.len() < 2) {
                return wrong("dynamic-rms", "the training text is empty".into());
            }
        }
        Ok(())
    }
}
