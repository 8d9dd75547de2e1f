//! The tokens of a run.

use crate::tokenizer::Tokenizer;
use crate::tokens::{TokenStoreOptions, Tokens, token_stream};
use crate::{Error, Result};

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

    /// Nats a token of the held-out text as bits a character.
    pub(super) fn val_bits(&self, loss: f64) -> f64 {
        loss * (self.val.len() - 1) as f64 / self.val_chars as f64 / std::f64::consts::LN_2
    }
}
