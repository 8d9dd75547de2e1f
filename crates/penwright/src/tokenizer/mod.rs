//! Tokenizers: text to ids and back, exactly, for any Unicode text.

mod chars;
mod stream;

pub use stream::DecodeStream;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::run::{read_json, write_json};
use crate::{Error, Result};
use chars::CharTokenizer;

/// The unit that a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Unicode characters.
    Char,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Level::Char => "char",
        })
    }
}

/// A tokenizer of any level. Every text encodes, and decodes back exactly.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: CharTokenizer,
}

impl Tokenizer {
    /// Learns the vocabulary of the level from texts.
    pub fn train(level: Level, texts: &[&str]) -> Self {
        match level {
            Level::Char => Tokenizer { inner: CharTokenizer::train(texts) },
        }
    }

    /// Reads `tokenizer.json` from a run directory.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let inner = CharTokenizer::from_json(&read_json(&path)?).ok_or_else(|| {
            Error::damaged(&path, "is not a character tokenizer of Penwright; copy it from the run again")
        })?;
        Ok(Tokenizer { inner })
    }

    /// Writes `tokenizer.json`, in Hugging Face's format, into a folder.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join("tokenizer.json"), &self.inner.to_json())
    }

    /// The level.
    pub fn level(&self) -> Level {
        Level::Char
    }

    /// Number of ids, the end-of-text token included.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    /// The id of `<|endoftext|>`, which begins every text and stands between documents.
    pub fn eot(&self) -> u32 {
        chars::EOT
    }

    /// Ids that are never to be generated (the escape for unseen characters).
    pub fn suppressed(&self) -> &[u32] {
        &[chars::ESCAPE]
    }

    /// Encodes any text. `<|endoftext|>` in the text is text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.inner.encode(text)
    }

    /// The bytes of the tokens, which may cut a character at either end; end-of-text has none.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        self.inner.decode_bytes(tokens)
    }

    /// The text of the tokens; bytes that form no character become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(tokens)).into_owned()
    }

    /// A decoder that takes one token at a time and never cuts a character.
    pub fn stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back(trained in ".{0,40}", text in "\\PC*|(?s).{0,60}") {
            let tokenizer = Tokenizer::train(Level::Char, &[&trained]);
            let tokens = tokenizer.encode(&text);
            prop_assert!(tokens.iter().all(|&t| (t as usize) < tokenizer.vocab_size()));
            prop_assert_eq!(tokenizer.decode(&tokens), text.clone());
            let mut stream = tokenizer.stream();
            let mut streamed: String = tokens.iter().map(|&t| stream.push(t)).collect();
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, text);
        }
    }

    #[test]
    fn saved_and_loaded_alike() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(Level::Char, &["The wind, the \"sea\" — and\n\ttabs."]);
        tokenizer.save(dir.path()).unwrap();
        let again = Tokenizer::load(dir.path()).unwrap();
        let text = "the sea — 海 <|endoftext|>";
        assert_eq!(tokenizer.encode(text), again.encode(text));
        assert_eq!(again.decode(&again.encode(text)), text);
    }

    #[test]
    fn broken_escapes_do_not_panic() {
        let tokenizer = Tokenizer::train(Level::Char, &["abc"]);
        for tokens in
            [vec![chars::ESCAPE], vec![chars::ESCAPE, chars::ESCAPE, 3], vec![chars::ESCAPE, 17], vec![9999, 3]]
        {
            let _ = tokenizer.decode(&tokens);
        }
    }
}
