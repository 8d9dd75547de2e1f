//! Writing: from the model's probabilities to tokens to text.

use std::sync::Arc;

use penwright_kernels::exp;

use crate::layers::random;
use crate::model::LanguageModel;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// How the next token is chosen.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// Divides the log-probabilities; 0 takes the likeliest always.
    pub temperature: f32,
    /// Only the `k` likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability (Holtzman et al. 2020); 1 for all.
    pub top_p: f32,
    /// Seed; the same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.8, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    fn check(&self) -> Result<()> {
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return Err(Error::setting("temperature", format!("{} is not a number from 0 up", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::setting("top-p", format!("{} is not above 0 and at most 1", self.top_p)));
        }
        Ok(())
    }

    /// Chooses the `n`-th token of a text; `banned` tokens never.
    pub fn choose(&self, log_probs: &[f32], banned: &[u32], n: u64) -> u32 {
        let allowed = |id: &u32| !banned.contains(id);
        let mut ids: Vec<u32> = (0..log_probs.len() as u32).filter(allowed).collect();
        let likelier = |a: &u32, b: &u32| log_probs[*b as usize].total_cmp(&log_probs[*a as usize]).then(a.cmp(b));
        if self.temperature == 0.0 {
            return ids.into_iter().min_by(likelier).unwrap_or(0);
        }
        ids.sort_unstable_by(likelier);
        if self.top_k > 0 {
            ids.truncate(self.top_k);
        }
        let best = log_probs[ids[0] as usize];
        let mut weights: Vec<f64> =
            ids.iter().map(|&id| f64::from(exp((log_probs[id as usize] - best) / self.temperature))).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let within = weights.iter().take_while(|&&w| {
            let before = sum;
            sum += w / total;
            before < f64::from(self.top_p)
        });
        let kept = within.count();
        weights.truncate(kept);
        let total: f64 = weights.iter().sum();
        let mut point = (random(self.seed, n) >> 11) as f64 / (1u64 << 53) as f64 * total;
        for (id, weight) in ids.iter().zip(&weights) {
            point -= weight;
            if point < 0.0 {
                return *id;
            }
        }
        ids[kept - 1]
    }
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// As many tokens as asked for.
    Length,
    /// The model ended the text.
    Stop,
}

/// A written text.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The text after the prompt.
    pub text: String,
    /// Number of tokens written.
    pub tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Natural-log probability of the written tokens under the model itself (temperature 1).
    pub log_prob: f64,
}

/// Writes up to `tokens` tokens after `prompt`; `on_text` receives whole characters as they come.
///
/// # Errors
/// When a sampling setting cannot work or the model refuses the prompt.
pub fn generate(
    model: &Arc<dyn LanguageModel>,
    tokenizer: &Tokenizer,
    prompt: &str,
    tokens: usize,
    sampling: &Sampling,
    on_text: &mut dyn FnMut(&str),
) -> Result<Sample> {
    sampling.check()?;
    let mut session = model.clone().session(1)?;
    session.feed(0, &[tokenizer.eot()])?;
    session.feed(0, &tokenizer.encode(prompt))?;
    let mut stream = tokenizer.stream();
    let mut sample = Sample { text: String::new(), tokens: 0, finish_reason: FinishReason::Length, log_prob: 0.0 };
    let mut emit = |sample: &mut Sample, piece: String| {
        if !piece.is_empty() {
            on_text(&piece);
            sample.text.push_str(&piece);
        }
    };
    for n in 0..tokens {
        let token = sampling.choose(session.log_probs(0), tokenizer.suppressed(), n as u64);
        if token == tokenizer.eot() {
            sample.finish_reason = FinishReason::Stop;
            break;
        }
        sample.log_prob += f64::from(session.log_probs(0)[token as usize]);
        sample.tokens += 1;
        emit(&mut sample, stream.push(token));
        session.step(&[0], &[token])?;
    }
    emit(&mut sample, stream.finish());
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_respect_their_limits() {
        let log_probs: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let all = |sampling: Sampling| {
            (0..500).map(|n| sampling.choose(&log_probs, &[], n)).collect::<std::collections::BTreeSet<_>>()
        };
        let base = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(all(base.clone()).len(), 4);
        assert_eq!(all(Sampling { top_k: 2, ..base.clone() }).into_iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(all(Sampling { top_p: 0.6, ..base.clone() }).into_iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(all(Sampling { temperature: 0.0, ..base.clone() }).into_iter().collect::<Vec<_>>(), [0]);
        assert_eq!(base.choose(&log_probs, &[0, 1, 2], 7), 3);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let log_probs: Vec<f32> = [0.7f32, 0.3].iter().map(|p| p.ln()).collect();
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        let ones = (0..20_000).filter(|&n| sampling.choose(&log_probs, &[], n) == 1).count();
        assert!((5_700..6_300).contains(&ones), "{ones}");
    }
}
