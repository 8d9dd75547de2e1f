//! The character tokenizer: one id for each character of the training text, and an escape for all others.
//!
//! An unseen character is written as its UTF-8 bytes, each as the escape and two of the first sixteen
//! characters of the vocabulary as hexadecimal digits. So the vocabulary stays as small as the text's and any
//! text has a finite likelihood.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::ENDOFTEXT;

/// The id of the end-of-text token.
pub(super) const EOT: u32 = 0;
/// The id of the escape.
pub(super) const ESCAPE: u32 = 1;
/// The escape's name in `tokenizer.json`.
pub(super) const ESCAPE_NAME: &str = "<|escape|>";
const FIRST: u32 = 2;
const DIGITS: usize = 16;

/// How far an escape has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Escape {
    #[default]
    None,
    Open,
    High(u32),
}

#[derive(Clone, Debug)]
pub(super) struct CharTokenizer {
    chars: Vec<char>,
    ids: HashMap<char, u32>,
}

impl CharTokenizer {
    pub(super) fn train(texts: &[&str]) -> Self {
        let mut chars: BTreeSet<char> = texts.iter().flat_map(|text| text.chars()).collect();
        let mut fill = "0123456789abcdef".chars();
        while chars.len() < DIGITS {
            chars.extend(fill.next());
        }
        Self::new(chars.into_iter().collect())
    }

    fn new(chars: Vec<char>) -> Self {
        let ids = chars.iter().zip(FIRST..).map(|(&c, id)| (c, id)).collect();
        CharTokenizer { chars, ids }
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.chars.len() + FIRST as usize
    }

    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(text.len());
        for c in text.chars() {
            match self.ids.get(&c) {
                Some(&id) => tokens.push(id),
                None => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        tokens.extend([ESCAPE, FIRST + u32::from(byte >> 4), FIRST + u32::from(byte & 15)]);
                    }
                }
            }
        }
        tokens
    }

    /// Adds the bytes of the next token; escapes take three. A broken escape gives 0xFF, which is in no character.
    pub(super) fn decode(&self, state: &mut Escape, token: u32, bytes: &mut Vec<u8>) {
        let digit = token.checked_sub(FIRST).filter(|&d| d < DIGITS as u32);
        match (std::mem::take(state), digit) {
            (Escape::Open, Some(high)) => *state = Escape::High(high),
            (Escape::High(high), Some(low)) => bytes.push((high << 4 | low) as u8),
            (broken, _) => {
                self.finish(broken, bytes);
                match self.char(token) {
                    Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                    None if token == ESCAPE => *state = Escape::Open,
                    None => {}
                }
            }
        }
    }

    /// Adds the bytes of an escape that was left open.
    pub(super) fn finish(&self, state: Escape, bytes: &mut Vec<u8>) {
        if state != Escape::None {
            bytes.push(0xFF);
        }
        if let Escape::High(high) = state {
            bytes.extend(self.char(FIRST + high).into_iter().flat_map(|c| c.to_string().into_bytes()));
        }
    }

    /// The character of an id; none for end-of-text, the escape and what is not in the vocabulary.
    pub(super) fn char(&self, token: u32) -> Option<char> {
        self.chars.get(token.checked_sub(FIRST)? as usize).copied()
    }

    /// Hugging Face's format: BPE without merges splits into characters; what it does not know is the escape.
    pub(super) fn to_json(&self) -> Value {
        let mut vocab = serde_json::Map::new();
        vocab.insert(ENDOFTEXT.into(), EOT.into());
        vocab.insert(ESCAPE_NAME.into(), ESCAPE.into());
        for (c, id) in self.chars.iter().zip(FIRST..) {
            vocab.insert(c.to_string(), id.into());
        }
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [{
                "id": EOT, "content": ENDOFTEXT, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
            }],
            "pre_tokenizer": null, "post_processor": null, "decoder": { "type": "Fuse" },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": ESCAPE_NAME, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []
            }
        })
    }

    pub(super) fn from_json(json: &Value) -> Option<Self> {
        let vocab = json.get("model")?.get("vocab")?.as_object()?;
        let count = vocab.len().checked_sub(FIRST as usize).filter(|&n| n >= DIGITS)?;
        if vocab.get(ENDOFTEXT)?.as_u64()? != u64::from(EOT) || vocab.get(ESCAPE_NAME)?.as_u64()? != u64::from(ESCAPE) {
            return None;
        }
        let mut chars = vec![None; count];
        for (text, id) in vocab {
            let (mut all, id) = (text.chars(), id.as_u64()?);
            if id >= FIRST.into() {
                let (c, None) = (all.next()?, all.next()) else { return None };
                *chars.get_mut(id as usize - FIRST as usize)? = Some(c);
            }
        }
        Some(Self::new(chars.into_iter().collect::<Option<_>>()?))
    }
}
