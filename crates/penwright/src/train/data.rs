//! The tokens of a run.

use crate::tokenizer::Tokenizer;
use crate::tokens::{TokenStoreOptions, Tokens, token_stream};
use crate::{Error, Result};

/// Stretches of an excerpt.
const STRETCHES: usize = 16;

/// The tokens to train on and those held out.
pub struct Data {
    /// To train on: documents, each begun by the end-of-text token.
    pub train: Tokens,
    /// Held out, likewise.
    pub val: Tokens,
    /// Characters of the held-out text.
    pub val_chars: usize,
}

impl Data {
    /// Encodes texts to train on and to validate on; `progress` receives the bytes done and in all.
    ///
    /// # Errors
    /// When the validation part is empty or the disk has no room for tokens that exceed memory.
    pub fn encode(
        tokenizer: &Tokenizer,
        train: &[&str],
        val: &[&str],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Data> {
        if val.iter().all(|text| text.is_empty()) {
            return Err(Error::Text("the validation part is empty; use a longer text or give one with --val".into()));
        }
        let mut encode = |texts: &[&str]| token_stream(tokenizer, texts, &TokenStoreOptions::default(), progress);
        let val_chars = val.iter().map(|text| text.chars().count()).sum();
        Ok(Data { train: encode(train)?, val: encode(val)?, val_chars })
    }

    /// The logarithm of each token's part of the training text, one more counted of each, so that none has nothing.
    pub(super) fn log_frequencies(&self, vocab: usize) -> Vec<f32> {
        let mut counts = vec![1_u64; vocab];
        self.train.iter().for_each(|&token| counts[token as usize] += 1);
        let total = (self.train.len() + vocab) as f64;
        counts.iter().map(|&count| (count as f64 / total).ln() as f32).collect()
    }

    /// About so many tokens of the held-out text, in stretches spread evenly over it; all of it where it is no longer.
    pub(super) fn excerpt(&self, tokens: usize) -> Vec<u32> {
        let stretch = tokens.div_ceil(STRETCHES);
        if STRETCHES * stretch >= self.val.len() {
            return self.val.to_vec();
        }
        let last = self.val.len() - stretch;
        (0..STRETCHES).flat_map(|i| &self.val[i * last / (STRETCHES - 1)..][..stretch]).copied().collect()
    }

    /// Nats a token of the held-out text as bits a character, by the characters that a token of it has on average.
    pub(super) fn val_bits(&self, loss: f64) -> f64 {
        loss * (self.val.len() - 1) as f64 / self.val_chars as f64 / std::f64::consts::LN_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_of_one_more_than_there_are() {
        let data = Data { train: vec![2, 0, 2, 2].into(), val: vec![].into(), val_chars: 0 };
        let parts: Vec<f32> = data.log_frequencies(4).iter().map(|log| (8.0 * log.exp()).round()).collect();
        assert_eq!(parts, [2.0, 1.0, 4.0, 1.0]);
    }

    #[test]
    fn an_excerpt_is_spread_over_the_whole_text() {
        let data = |n: u32| Data { train: vec![].into(), val: (0..n).collect::<Vec<_>>().into(), val_chars: 1 };
        let excerpt = data(100_000).excerpt(3200);
        assert_eq!((excerpt.len(), excerpt[0], *excerpt.last().unwrap()), (3200, 0, 99_999));
        let jumps: Vec<u32> = excerpt.windows(2).map(|pair| pair[1] - pair[0]).filter(|&step| step != 1).collect();
        assert!(jumps.len() == STRETCHES - 1 && jumps.iter().all(|jump| (6454..6456).contains(jump)), "{jumps:?}");
        for n in [1, 15, 16, 17, 40, 1000] {
            for tokens in [1, 16, 39, 999, 2000] {
                let excerpt = data(n).excerpt(tokens);
                assert!(excerpt.len() >= tokens.min(n as usize) && excerpt.len() <= n as usize);
                assert!(excerpt.is_sorted_by(|a, b| a < b), "{tokens} of {n}");
            }
        }
    }
}
