//! Tokenizers: text to ids and back, exactly, for any Unicode text.
//!
//! Four levels share one face, [`Tokenizer`]: characters ([`Level::Char`]), words, byte-level BPE and GPT-2's
//! published vocabulary. The last three are one machine (`bytes.rs`): the text is cut into pieces (`split.rs`), each
//! piece becomes tokens, and since every byte is a token, nothing is unknown.
//!
//! `tokenizer.json` is Hugging Face's format. The crate `tokenizers` and Python's `PreTrainedTokenizerFast` give the
//! same ids for every text, with two exceptions: `<|endoftext|>` in the text is their special token (it is text
//! here), and a character level's unseen character is one `<|escape|>` there (three tokens a byte here). Python's
//! regex engine may also class the newest characters of Unicode otherwise.

mod bpe;
mod bytes;
mod chars;
mod foreign;
mod gpt2;
mod json;
mod merge;
mod split;
mod stream;
mod words;

pub use bpe::default_bpe_vocab;
pub(crate) use foreign::{Kind, Lists};
pub use stream::DecodeStream;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::files::{parse_json, write, write_json};
use crate::{Error, Result};
use bytes::ByteTokenizer;
use chars::CharTokenizer;
use json::Json;
use split::Scheme;

const FILE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
/// The name of the end-of-text token.
const ENDOFTEXT: &str = "<|endoftext|>";
/// The largest vocabulary that may be asked for.
const MAX_VOCAB: usize = 1 << 20;
/// Bytes of text that are encoded in one piece; longer texts are cut, and the parts encoded in parallel.
const PART: usize = 256 << 10;

/// The unit that a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Unicode characters.
    Char,
    /// Words by frequency, punctuation and white space; other words are spelled.
    Word,
    /// Byte-level BPE, its merges learned from the text.
    Bpe,
    /// The published vocabulary of GPT-2.
    Gpt2,
}

impl Level {
    /// Whether its tokens are merged from others, down to bytes.
    pub fn merges(self) -> bool {
        matches!(self, Level::Bpe | Level::Gpt2)
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Level::Char => "char",
            Level::Word => "word",
            Level::Bpe => "bpe",
            Level::Gpt2 => "gpt2",
        })
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Level::Char, Level::Word, Level::Bpe, Level::Gpt2]
            .into_iter()
            .find(|level| level.to_string() == name)
            .ok_or_else(|| Error::setting("level", format!("{name:?} is none; give char, word, bpe or gpt2")))
    }
}

#[derive(Clone)]
enum Inner {
    Char(Arc<CharTokenizer>),
    Bytes(Arc<ByteTokenizer>),
}

/// A tokenizer of any level. Every text encodes, and decodes back exactly. Cloning is cheap.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Inner,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("level", &self.level()).field("vocab_size", &self.vocab_size()).finish()
    }
}

impl Tokenizer {
    /// Learns the vocabulary of the level from texts. `vocab_size` is the number of ids at most, end-of-text and
    /// bytes included; `None` takes what suits the text: for BPE [`default_bpe_vocab`], for words all units seen at
    /// least twice, at most 10,000. Characters and GPT-2 have no choice of size.
    ///
    /// # Errors
    /// When the level cannot have the size.
    pub fn train(level: Level, texts: &[&str], vocab_size: Option<usize>) -> Result<Self> {
        let fixed = |what| Error::setting("vocab-size", format!("{what}; leave it out, or choose --level word or bpe"));
        let inner = match (level, vocab_size) {
            (Level::Char, Some(_)) => return Err(fixed("a character vocabulary is the characters of the text")),
            (Level::Char, None) => Inner::Char(Arc::new(CharTokenizer::train(texts))),
            (Level::Word, size) => Inner::Bytes(Arc::new(words::train(texts, size, Scheme::Word)?)),
            (Level::Bpe, size) => Inner::Bytes(Arc::new(bpe::train(texts, size)?)),
            (Level::Gpt2, None) => return Self::gpt2(),
            (Level::Gpt2, Some(size)) if size == gpt2::EOT as usize + 1 => return Self::gpt2(),
            (Level::Gpt2, Some(_)) => return Err(fixed("the GPT-2 vocabulary has 50257 tokens")),
        };
        Ok(Tokenizer { inner })
    }

    /// Learns the vocabulary of text that is cut into words already, each a token, as the text of
    /// [`WordFormat::Ptb`](crate::corpus::WordFormat::Ptb) is read: all words, or the `vocab_size` ids that are most
    /// frequent, end-of-text and bytes included.
    ///
    /// # Errors
    /// When the vocabulary cannot have the size.
    pub fn train_ptb(texts: &[&str], vocab_size: Option<usize>) -> Result<Self> {
        Ok(Tokenizer { inner: Inner::Bytes(Arc::new(words::train(texts, vocab_size, Scheme::Ptb)?)) })
    }

    /// GPT-2's published tokenizer, made once.
    ///
    /// # Errors
    /// Only when the vocabulary built into the program is damaged.
    pub fn gpt2() -> Result<Self> {
        Ok(Tokenizer { inner: Inner::Bytes(gpt2::gpt2()?) })
    }

    /// Reads `tokenizer.json` from a run or a Hugging Face directory: one of Penwright's, or any byte-level BPE that
    /// cuts text as GPT-2 does. The level shows in the file itself. Where there is none, `vocab.json` and `merges.txt`
    /// are read, with what `added_tokens.json`, `special_tokens_map.json` and `tokenizer_config.json` add.
    ///
    /// # Errors
    /// When the files are missing, damaged, or of another kind.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if dir.is_dir() && !path.exists() {
            return foreign::load(dir);
        }
        let raw = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let byte_level = |json: Json<'_>| {
            let tokenizer = json.tokenizer(eos_token(dir).as_deref()).map_err(|e| Error::damaged(&path, e))?;
            Ok(Tokenizer { inner: Inner::Bytes(Arc::new(tokenizer)) })
        };
        let text = std::str::from_utf8(&raw).unwrap_or_default();
        if let Some(json) = serde_json::from_str::<Json>(text).ok().filter(|json| json.unknown() != chars::ESCAPE_NAME)
        {
            return byte_level(json);
        }
        // Whatever else it may be.
        let json = parse_json(&path, &raw)?;
        if json["model"]["unk_token"] == chars::ESCAPE_NAME {
            let damaged = "is a damaged character tokenizer; copy it from the run again";
            let chars = CharTokenizer::from_json(&json).ok_or_else(|| Error::damaged(&path, damaged))?;
            return Ok(Tokenizer { inner: Inner::Char(Arc::new(chars)) });
        }
        byte_level(Json::of(&json).map_err(|e| Error::damaged(&path, e))?)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, in Hugging Face's format, into a folder.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let (eot, unknown) = match &self.inner {
            Inner::Char(chars) => {
                write_json(&dir.join(FILE), &chars.to_json())?;
                (ENDOFTEXT, Some(chars::ESCAPE_NAME))
            }
            // One line: the large ones have a hundred thousand entries.
            Inner::Bytes(tokenizer) => {
                write(&dir.join(FILE), tokenizer.to_json().to_string().as_bytes())?;
                (tokenizer.special(tokenizer.eot).unwrap_or(ENDOFTEXT), None)
            }
        };
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": eot, "eos_token": eot, "unk_token": unknown,
            "clean_up_tokenization_spaces": false, "add_prefix_space": false, "penwright_level": self.level()
        });
        write_json(&dir.join(CONFIG), &config)
    }

    /// The level.
    pub fn level(&self) -> Level {
        match &self.inner {
            Inner::Char(_) => Level::Char,
            Inner::Bytes(tokenizer) => tokenizer.level,
        }
    }

    /// Number of ids, the end-of-text token included.
    pub fn vocab_size(&self) -> usize {
        match &self.inner {
            Inner::Char(chars) => chars.vocab_size(),
            Inner::Bytes(tokenizer) => tokenizer.vocab_size(),
        }
    }

    /// The two tokens that each is merged from, both of them shorter; none of characters and of words.
    pub(crate) fn halves(&self) -> Vec<Option<(u32, u32)>> {
        match &self.inner {
            Inner::Bytes(tokenizer) if self.level().merges() => tokenizer.halves(),
            _ => vec![None; self.vocab_size()],
        }
    }

    /// The id of `<|endoftext|>`, which begins every text and stands between documents.
    pub fn eot(&self) -> u32 {
        match &self.inner {
            Inner::Char(_) => chars::EOT,
            Inner::Bytes(tokenizer) => tokenizer.eot,
        }
    }

    /// Ids that are never to be generated, in ascending order: a character level's escape; special tokens other than
    /// end-of-text; ids without a token. The bytes and characters that spell a word are allowed.
    pub fn suppressed(&self) -> &[u32] {
        match &self.inner {
            Inner::Char(_) => &[chars::ESCAPE],
            Inner::Bytes(tokenizer) => &tokenizer.suppressed,
        }
    }

    /// The tokens beside those of the text, by id: end-of-text, and what a tokenizer made elsewhere has added, such as
    /// the markers of turns. Text never becomes one of them.
    pub fn special_tokens(&self) -> Vec<(&str, u32)> {
        match &self.inner {
            Inner::Char(_) => vec![(ENDOFTEXT, chars::EOT)],
            Inner::Bytes(tokenizer) => {
                tokenizer.added().iter().map(|token| (token.content.as_str(), token.id)).collect()
            }
        }
    }

    /// Encodes any text. `<|endoftext|>` in the text is text. Long texts are encoded in parallel.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_by_parts(text, PART)
    }

    fn encode_by_parts(&self, text: &str, size: usize) -> Vec<u32> {
        let one = |part: &str| match &self.inner {
            Inner::Char(chars) => chars.encode(part),
            Inner::Bytes(tokenizer) => tokenizer.encode_part(part),
        };
        if text.len() <= size {
            return one(text);
        }
        let parts = split::parts(text, size, |text, from| self.safe_cut(text, from));
        parts.into_par_iter().map(one).collect::<Vec<_>>().concat()
    }

    /// The first byte from `from` on (at least one) where the text may be cut so that its parts, encoded apart, have
    /// the tokens that they have together; the text's length when there is none.
    pub fn safe_cut(&self, text: &str, from: usize) -> usize {
        match &self.inner {
            Inner::Char(_) => (from.max(1)..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len()),
            Inner::Bytes(_) => split::safe_cut(text, from),
        }
    }

    /// The text of the tokens; bytes that form no character become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(tokens)).into_owned()
    }

    /// A decoder that takes one token at a time and never cuts a character.
    pub fn stream(&self) -> DecodeStream {
        DecodeStream::new(self.clone())
    }

    /// One token for people: its text, bytes that are part of a character as `\xE2`, special tokens by name, ids
    /// without a token as nothing.
    pub fn piece(&self, id: u32) -> String {
        let bytes = match &self.inner {
            Inner::Char(_) if id == chars::EOT => return ENDOFTEXT.into(),
            Inner::Char(_) if id == chars::ESCAPE => return chars::ESCAPE_NAME.into(),
            Inner::Char(chars) => return chars.char(id).map(String::from).unwrap_or_default(),
            Inner::Bytes(tokenizer) => match tokenizer.special(id) {
                Some(name) => return name.into(),
                None => tokenizer.token(id),
            },
        };
        let shown = |chunk: std::str::Utf8Chunk<'_>| {
            let wrong: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")).collect();
            format!("{}{wrong}", chunk.valid())
        };
        bytes.utf8_chunks().map(shown).collect()
    }
}

/// The end-of-text token that `tokenizer_config.json` names, if there is one.
fn eos_token(dir: &Path) -> Option<String> {
    let config: Value = serde_json::from_slice(&std::fs::read(dir.join(CONFIG)).ok()?).ok()?;
    let eos = &config["eos_token"];
    eos.as_str().or(eos["content"].as_str()).map(String::from)
}

#[cfg(test)]
mod tests;
