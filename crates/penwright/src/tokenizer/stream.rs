//! Tokens to text, one at a time, never cutting a character.

use super::{Tokenizer, chars};

/// Decodes a stream of tokens into whole characters.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u32>,
}

impl<'a> DecodeStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        DecodeStream { tokenizer, pending: Vec::new() }
    }

    /// Adds a token; returns the text that is complete by now.
    pub fn push(&mut self, token: u32) -> String {
        self.pending.push(token);
        // An escaped byte is three tokens; up to four bytes make a character.
        let open = self.pending.contains(&chars::ESCAPE) && self.pending.len() < 12;
        let bytes = self.tokenizer.decode_bytes(&self.pending);
        match String::from_utf8(bytes) {
            Ok(text) if !open || (self.pending.len().is_multiple_of(3) && !text.is_empty()) => {
                self.pending.clear();
                text
            }
            Err(error) if !open => {
                self.pending.clear();
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
            _ => String::new(),
        }
    }

    /// What is left at the end, incomplete characters as U+FFFD.
    pub fn finish(self) -> String {
        self.tokenizer.decode(&self.pending)
    }
}
