//! Tokenizers: text to ids and back, exactly, for any Unicode text.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;

/// The unit that a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Unicode characters.
    Char,
    /// Words with the space before them, by frequency.
    Word,
    /// Byte-level BPE trained on the text.
    Bpe,
    /// GPT-2's own 50,257 tokens.
    Gpt2,
}

/// A tokenizer of any level. Every text encodes, and decodes back exactly.
#[derive(Clone)]
pub struct Tokenizer {
    level: Level,
}

impl Tokenizer {
    /// Learns a vocabulary of at most `vocab_size` tokens (`None`: the level's default) from texts.
    ///
    /// # Errors
    /// When the vocabulary size cannot work for the level.
    pub fn train(level: Level, vocab_size: Option<usize>, texts: &[&str]) -> Result<Self> {
        let _ = (vocab_size, texts);
        Ok(Tokenizer { level })
    }

    /// Reads `tokenizer.json` (or GPT-2's `vocab.json` and `merges.txt`) from a folder.
    ///
    /// # Errors
    /// When the files are missing or damaged.
    pub fn load(dir: &Path) -> Result<Self> {
        let _ = dir;
        todo!()
    }

    /// Writes `tokenizer.json` and its companions into a folder, each file whole or not at all.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let _ = dir;
        todo!()
    }

    /// The level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Number of ids, the end-of-text token included.
    pub fn vocab_size(&self) -> usize {
        todo!()
    }

    /// The id of `<|endoftext|>`, which begins every text and stands between documents.
    pub fn eot(&self) -> u32 {
        todo!()
    }

    /// Ids that are never to be generated (escapes for unseen characters).
    pub fn suppressed(&self) -> &[u32] {
        todo!()
    }

    /// Encodes any text. `<|endoftext|>` in the text is text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let _ = text;
        todo!()
    }

    /// The bytes of the tokens, which may cut a character at either end; end-of-text has none.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        let _ = tokens;
        todo!()
    }

    /// The text of the tokens; bytes that form no character become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(tokens)).into_owned()
    }

    /// A decoder that takes one token at a time and never cuts a character.
    pub fn stream(&self) -> DecodeStream<'_> {
        DecodeStream { tokenizer: self, pending: Vec::new() }
    }
}

/// Decodes a stream of tokens into whole characters.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u8>,
}

impl DecodeStream<'_> {
    /// Adds a token; returns the text that is complete by now.
    pub fn push(&mut self, token: u32) -> String {
        self.pending.extend(self.tokenizer.decode_bytes(&[token]));
        todo!()
    }

    /// What is left at the end, incomplete characters as U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}
