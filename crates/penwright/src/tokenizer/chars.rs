//! The character tokenizer: one id for each character of the training text, and an escape for all others.
//!
//! An unseen character is written as its UTF-8 bytes, each as the escape and two of the first sixteen
//! characters of the vocabulary as hexadecimal digits. So the vocabulary stays as small as the text's and any
//! text has a finite likelihood.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

/// The id of the end-of-text token.
pub(super) const EOT: u32 = 0;
/// The id of the escape.
pub(super) const ESCAPE: u32 = 1;
const FIRST: u32 = 2;
const DIGITS: usize = 16;

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

    pub(super) fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        let digit = |t: Option<&u32>| t.and_then(|t| t.checked_sub(FIRST)).filter(|&d| d < DIGITS as u32);
        let (mut bytes, mut i) = (Vec::with_capacity(tokens.len()), 0);
        while i < tokens.len() {
            if tokens[i] == ESCAPE {
                if let (Some(high), Some(low)) = (digit(tokens.get(i + 1)), digit(tokens.get(i + 2))) {
                    bytes.push((high << 4 | low) as u8);
                    i += 2;
                } else {
                    bytes.push(0xFF); // a broken escape: no character
                }
            } else if let Some(c) = tokens[i].checked_sub(FIRST).and_then(|i| self.chars.get(i as usize)) {
                bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            }
            i += 1;
        }
        bytes
    }

    /// Hugging Face's format: BPE without merges splits into characters; what it does not know is the escape.
    pub(super) fn to_json(&self) -> Value {
        let mut vocab = serde_json::Map::new();
        vocab.insert("<|endoftext|>".into(), EOT.into());
        vocab.insert("<|escape|>".into(), ESCAPE.into());
        for (c, id) in self.chars.iter().zip(FIRST..) {
            vocab.insert(c.to_string(), id.into());
        }
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [{
                "id": EOT, "content": "<|endoftext|>", "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
            }],
            "pre_tokenizer": null, "post_processor": null, "decoder": { "type": "Fuse" },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": "<|escape|>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []
            }
        })
    }

    pub(super) fn from_json(json: &Value) -> Option<Self> {
        let vocab = json.get("model")?.get("vocab")?.as_object()?;
        let count = vocab.len().checked_sub(FIRST as usize).filter(|&n| n >= DIGITS)?;
        if vocab.get("<|endoftext|>")?.as_u64()? != u64::from(EOT)
            || vocab.get("<|escape|>")?.as_u64()? != u64::from(ESCAPE)
        {
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
