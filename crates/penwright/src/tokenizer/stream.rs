//! Tokens to text, one at a time, never cutting a character; and which token covers which text.

use std::ops::Range;

use super::chars::Escape;
use super::{Inner, Tokenizer};

/// Decodes a stream of tokens into whole characters. Joined, what it gives is what [`Tokenizer::decode`] gives.
pub struct DecodeStream {
    tokenizer: Tokenizer,
    escape: Escape,
    /// Bytes that do not make a character yet.
    pending: Vec<u8>,
}

impl DecodeStream {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        DecodeStream { tokenizer, escape: Escape::None, pending: Vec::new() }
    }

    /// Adds a token; returns the text that is complete by now.
    pub fn push(&mut self, token: u32) -> String {
        self.tokenizer.push_bytes(&mut self.escape, token, &mut self.pending);
        let (mut text, mut from) = (String::new(), 0);
        while let Some(rest) = self.pending.get(from..).filter(|rest| !rest.is_empty()) {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    from = self.pending.len();
                }
                Err(error) => {
                    let whole = rest.get(..error.valid_up_to()).unwrap_or_default();
                    text.push_str(&String::from_utf8_lossy(whole));
                    from += error.valid_up_to();
                    let Some(wrong) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    from += wrong;
                }
            }
        }
        self.pending.drain(..from);
        text
    }

    /// What is left at the end, incomplete characters as U+FFFD.
    pub fn finish(mut self) -> String {
        if let Inner::Char(chars) = &self.tokenizer.inner {
            chars.finish(self.escape, &mut self.pending);
        }
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

impl Tokenizer {
    /// Adds a token's bytes to `bytes`.
    pub(super) fn push_bytes(&self, escape: &mut Escape, token: u32, bytes: &mut Vec<u8>) {
        match &self.inner {
            Inner::Char(chars) => chars.decode(escape, token, bytes),
            Inner::Bytes(tokenizer) => bytes.extend(tokenizer.token(token)),
        }
    }

    /// The bytes of the tokens, which may cut a character at either end; end-of-text has none.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        let (mut escape, mut bytes) = (Escape::None, Vec::with_capacity(4 * tokens.len()));
        tokens.iter().for_each(|&token| self.push_bytes(&mut escape, token, &mut bytes));
        if let Inner::Char(chars) = &self.inner {
            chars.finish(escape, &mut bytes);
        }
        bytes
    }

    /// For each token of `text`, the bytes of the text that it covers. The ranges begin and end between characters,
    /// follow one another and cover the text; a token that ends within a character leaves it to the token that
    /// completes it, and its own range may be empty. `tokens` are those that [`Tokenizer::encode`] gives, with
    /// end-of-text tokens anywhere between; for other tokens the ranges are as good as can be.
    pub fn spans(&self, text: &str, tokens: &[u32]) -> Vec<Range<usize>> {
        let (mut escape, mut bytes) = (Escape::None, Vec::new());
        let (mut decoded, mut start) = (0, 0);
        let mut spans: Vec<Range<usize>> = Vec::with_capacity(tokens.len());
        for &token in tokens {
            bytes.clear();
            self.push_bytes(&mut escape, token, &mut bytes);
            decoded = (decoded + bytes.len()).min(text.len());
            let end = (start..=decoded).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(start);
            spans.push(start..end);
            start = end;
        }
        if let Some(last) = spans.last_mut() {
            last.end = text.len();
        }
        spans
    }
}
