//! Byte-level vocabularies: every byte is a token, so nothing is unknown. Pieces of text are encoded by byte-pair
//! merges (Sennrich et al. 2016), by the crate `tokenizers`; at the word level a piece that is a token is that token.
//!
//! In `tokenizer.json` each byte stands as one printable character, as GPT-2 writes them.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::split::{self, Scheme};
use super::{ENDOFTEXT, Level, gpt2};

/// A token beside the byte-level ones: end-of-text, and what a tokenizer made elsewhere has added.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    /// Stands for no text.
    pub(super) special: bool,
}

/// What a byte-level tokenizer is made of; tokens as GPT-2 writes them.
pub(super) struct Vocabulary {
    pub(super) level: Level,
    pub(super) scheme: Scheme,
    pub(super) tokens: BTreeMap<String, u32>,
    /// Pairs to merge, the first ones first.
    pub(super) merges: Vec<(String, String)>,
    pub(super) added: Vec<Added>,
    pub(super) eot: u32,
}

pub(super) struct ByteTokenizer {
    pub(super) level: Level,
    pub(super) eot: u32,
    pub(super) suppressed: Vec<u32>,
    scheme: Scheme,
    model: BPE,
    merges: Vec<(u32, u32)>,
    added: Vec<Added>,
    /// The bytes of token `i` are `bytes[starts[i]..starts[i + 1]]`.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    byte_ids: [u32; 256],
}

impl ByteTokenizer {
    /// Checks the vocabulary and makes it ready. The error says what is wrong, without a subject.
    pub(super) fn new(vocabulary: Vocabulary) -> Result<Self, String> {
        let Vocabulary { mut level, scheme, mut tokens, merges, mut added, eot } = vocabulary;
        added.sort_by_key(|token| token.id);
        // Without the added tokens, which text never becomes.
        added.iter().for_each(|token| _ = tokens.remove(&token.content));
        if level == Level::Bpe && scheme == Scheme::Gpt2 && gpt2::published(&tokens, &merges, &added, eot) {
            level = Level::Gpt2;
        }
        let (bytes, starts) = flatten(&tokens, &added)?;
        let tokens: Vocab = tokens.into_iter().collect();
        let mut byte_ids = [0; 256];
        for byte in 0..=255u8 {
            let id = tokens.get(&*byte_char(byte).encode_utf8(&mut [0; 4])).copied();
            byte_ids[usize::from(byte)] =
                id.ok_or_else(|| format!("lacks the byte {byte:#04x}; only byte-level BPE with all bytes is known"))?;
        }
        let id = |token: &str| tokens.get(token).copied();
        let mut joined = String::new();
        let pairs = merges.iter().map(|(a, b)| {
            joined.clear();
            joined.extend([a.as_str(), b]);
            match (id(a), id(b), id(&joined)) {
                (Some(a), Some(b), Some(_)) => Ok((a, b)),
                _ => Err(format!("merges {a:?} and {b:?}, which are not tokens or make none")),
            }
        });
        let pairs: Vec<(u32, u32)> = pairs.collect::<Result<_, _>>()?;
        // The library's cache is never freed; `encode_part` has its own.
        let model = BPE::builder().vocab_and_merges(tokens, merges).cache_capacity(0);
        let model = model.ignore_merges(scheme.is_words()).build().map_err(|e| format!("is unusable: {e}"))?;
        let special = added.iter().filter(|token| token.special && token.id != eot).map(|token| token.id);
        // A token of no bytes is special, or an id without one.
        let empty = |id: u32| starts[id as usize] == starts[id as usize + 1];
        let hole = |&id: &u32| empty(id) && added.binary_search_by_key(&id, |token| token.id).is_err();
        let holes = (0..starts.len() as u32 - 1).filter(hole);
        let mut suppressed: Vec<u32> = special.chain(holes).collect();
        suppressed.sort_unstable();
        Ok(ByteTokenizer { level, eot, suppressed, scheme, model, merges: pairs, added, bytes, starts, byte_ids })
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of a token; none for special tokens and ids without a token.
    pub(super) fn token(&self, id: u32) -> &[u8] {
        let range = |i: usize| Some(*self.starts.get(i)? as usize..*self.starts.get(i + 1)? as usize);
        range(id as usize).and_then(|range| self.bytes.get(range)).unwrap_or_default()
    }

    /// The token of the id, if it is an added one.
    fn added_at(&self, id: u32) -> Option<&Added> {
        self.added.binary_search_by_key(&id, |token| token.id).ok().and_then(|at| self.added.get(at))
    }

    /// The name of a token that stands for no text.
    pub(super) fn special(&self, id: u32) -> Option<&str> {
        self.added_at(id).filter(|token| token.special).map(|token| token.content.as_str())
    }

    /// Encodes a part of a text; pieces that come again are looked up.
    pub(super) fn encode_part(&self, text: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = Vec::with_capacity(text.len() / 3);
        let mut seen = HashMap::new();
        let mut chars = String::new();
        for piece in split::pieces(text, self.scheme) {
            if let &[byte] = piece.as_bytes() {
                ids.push(self.byte_ids[usize::from(byte)]);
                continue;
            }
            if let Some(range) = seen.get(piece) {
                ids.extend_from_within(std::ops::Range::clone(range));
                continue;
            }
            let start = ids.len();
            chars.clear();
            chars.extend(piece.bytes().map(byte_char));
            match self.model.tokenize(&chars) {
                Ok(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                Err(_) => ids.extend(piece.bytes().map(|byte| self.byte_ids[usize::from(byte)])),
            }
            seen.insert(piece, start..ids.len());
        }
        ids
    }

    /// The merges as tokens in printable characters, the first ones first.
    pub(super) fn merges(&self) -> impl Iterator<Item = (String, String)> {
        self.merges.iter().map(|&(a, b)| (to_chars(self.token(a)), to_chars(self.token(b))))
    }

    /// The tokens beside the byte-level ones, by id.
    pub(super) fn added(&self) -> &[Added] {
        &self.added
    }

    /// Hugging Face's format.
    pub(super) fn to_json(&self) -> Value {
        let name = |id: u32| to_chars(self.token(id));
        let mut vocab: serde_json::Map<String, Value> = (0..self.vocab_size() as u32)
            .filter(|&id| !self.token(id).is_empty() && self.added_at(id).is_none())
            .map(|id| (name(id), id.into()))
            .collect();
        vocab.extend(self.added.iter().map(|token| (token.content.clone(), token.id.into())));
        let added = self.added.iter().map(|token| {
            json!({
                "id": token.id, "content": token.content, "special": token.special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
            })
        });
        let merges = self.merges().map(|(a, b)| format!("{a} {b}"));
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex });
        let pre_tokenizer = match self.scheme {
            Scheme::Gpt2 => byte_level(true),
            Scheme::Word | Scheme::Ptb => json!({ "type": "Sequence", "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": self.scheme.pattern() }, "behavior": "Isolated", "invert": false },
                byte_level(false)
            ] }),
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": byte_level(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": self.scheme.is_words(), "vocab": vocab, "merges": merges.collect::<Vec<_>>()
            }
        })
    }

    /// Reads Hugging Face's format: byte-level BPE with GPT-2's pattern or one of the word level's. `eos` names the
    /// end-of-text token, else it is [`ENDOFTEXT`]. The error says what is wrong, without a subject.
    pub(super) fn from_json(json: &Value, eos: Option<&str>) -> Result<Self, String> {
        let model = &json["model"];
        let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != json!("");
        if model["type"] != "BPE" || set(&json["normalizer"]) {
            return Err("is no byte-level BPE without a normalizer; other kinds cannot give every text back".into());
        }
        if ["dropout", "continuing_subword_prefix", "end_of_word_suffix"].iter().any(|key| set(&model[*key])) {
            return Err("has dropout, a prefix or a suffix for parts of words, which is not byte-level BPE".into());
        }
        let scheme = scheme_of(&json["pre_tokenizer"])?;
        if set(&model["ignore_merges"]) != scheme.is_words() {
            return Err("has ignore_merges where its pattern has it not; make it anew".into());
        }
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or("has an id that is none");
        let vocab = model["vocab"].as_object().ok_or("has no vocabulary")?;
        let tokens: BTreeMap<String, u32> =
            vocab.iter().map(|(token, value)| Ok((token.clone(), id(value)?))).collect::<Result<_, &str>>()?;
        let mut added = Vec::new();
        for token in json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let content = token["content"].as_str().ok_or("has an added token without content")?;
            added.push(Added { id: id(&token["id"])?, content: content.into(), special: set(&token["special"]) });
        }
        let merges = model["merges"].as_array().ok_or("has no merges")?;
        let merges = merges.iter().map(merge).collect::<Option<_>>().ok_or("has a merge that is not a pair")?;
        Self::new(Vocabulary::ending(scheme, tokens, merges, added, eos)?)
    }
}

impl Vocabulary {
    /// A vocabulary made elsewhere, whose end-of-text token has the name `eos` or, where that is no token,
    /// [`ENDOFTEXT`].
    pub(super) fn ending(
        scheme: Scheme,
        tokens: BTreeMap<String, u32>,
        merges: Vec<(String, String)>,
        mut added: Vec<Added>,
        eos: Option<&str>,
    ) -> Result<Self, String> {
        let named = |name: &str| added.iter().find(|t| t.content == name).map(|t| t.id).or(tokens.get(name).copied());
        let name = [eos, Some(ENDOFTEXT)].into_iter().flatten().find(|name| named(name).is_some());
        let (Some(name), Some(eot)) = (name, name.and_then(named)) else {
            return Err(format!("has no end-of-text token; add {ENDOFTEXT} or name one as eos_token"));
        };
        match added.iter_mut().find(|token| token.id == eot) {
            Some(token) => token.special = true,
            None => added.push(Added { id: eot, content: name.into(), special: true }),
        }
        let level = if scheme.is_words() { Level::Word } else { Level::Bpe };
        Ok(Vocabulary { level, scheme, tokens, merges, added, eot })
    }
}

/// A merge as a pair or, in older files, as two tokens with a space between.
fn merge(value: &Value) -> Option<(String, String)> {
    let (a, b) = match value {
        Value::String(pair) => pair.split_once(' ')?,
        Value::Array(pair) => match pair.as_slice() {
            [a, b] => (a.as_str()?, b.as_str()?),
            _ => return None,
        },
        _ => return None,
    };
    Some((a.into(), b.into()))
}

/// The scheme of a `pre_tokenizer`: GPT-2's as `ByteLevel` has it, or a pattern that is known, then `ByteLevel`. A
/// space put before the text (`add_prefix_space`) is left away, or decoding would not give the text back.
fn scheme_of(json: &Value) -> Result<Scheme, String> {
    let unknown =
        || "cuts text in a way that is not GPT-2's; only byte-level BPE with GPT-2's pattern is known".to_string();
    let byte_level = |json: &Value, regex: bool| {
        json["type"] == "ByteLevel" && json.get("use_regex").and_then(Value::as_bool).unwrap_or(true) == regex
    };
    if byte_level(json, true) {
        return Ok(Scheme::Gpt2);
    }
    let Some([split, last]) = json["pretokenizers"].as_array().map(Vec::as_slice) else { return Err(unknown()) };
    if json["type"] != "Sequence" || split["type"] != "Split" || !byte_level(last, false) {
        return Err(unknown());
    }
    let plain = split["behavior"] == "Isolated" && split["invert"] != true;
    match split["pattern"]["Regex"].as_str().filter(|_| plain) {
        Some(split::GPT2_PATTERN | split::GPT2_PATTERN_ALIKE) => Ok(Scheme::Gpt2),
        Some(split::WORD_PATTERN) => Ok(Scheme::Word),
        Some(split::PTB_PATTERN) => Ok(Scheme::Ptb),
        _ => Err(unknown()),
    }
}

/// All tokens' bytes in one block and where each begins. Ids far beyond the number of tokens are damage.
fn flatten(tokens: &BTreeMap<String, u32>, added: &[Added]) -> Result<(Vec<u8>, Vec<u32>), String> {
    let byte_level = tokens.iter().map(|(token, &id)| (id, token.as_str(), true));
    let plain = added.iter().map(|token| (token.id, if token.special { "" } else { &token.content }, false));
    let (all, count) = (byte_level.chain(plain), tokens.len() + added.len());
    let size = all.clone().map(|(id, ..)| id as usize + 1).max().unwrap_or(0);
    if size > 2 * count + 1024 {
        return Err(format!("has {count} tokens but ids up to {}", size - 1));
    }
    let mut by_id = vec![None; size];
    for (id, text, byte_level) in all {
        if by_id[id as usize].replace((text, byte_level)).is_some() {
            return Err(format!("has two tokens with id {id}"));
        }
    }
    let (mut bytes, mut starts) = (Vec::new(), vec![0]);
    for token in by_id {
        match token {
            Some((text, true)) => {
                for c in text.chars() {
                    bytes.push(char_byte(c).ok_or_else(|| format!("has {text:?}, which is no byte-level token"))?);
                }
            }
            Some((text, false)) => bytes.extend_from_slice(text.as_bytes()),
            None => {}
        }
        starts.push(u32::try_from(bytes.len()).map_err(|_| "has more than 4 GiB of tokens")?);
    }
    Ok((bytes, starts))
}

/// GPT-2's printable character for a byte: itself where it is printable and no space, else one from U+0100 on.
pub(super) fn byte_char(byte: u8) -> char {
    let shifted = match byte {
        0..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x100 + 0x21 + u32::from(byte - 0x7F),
        0xAD => 0x143,
        _ => u32::from(byte),
    };
    char::from_u32(shifted).unwrap_or_default()
}

/// The byte of GPT-2's printable character.
fn char_byte(c: char) -> Option<u8> {
    let byte = match c as u32 {
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        code => code,
    };
    u8::try_from(byte).ok().filter(|&byte| byte_char(byte) == c)
}

/// Bytes as GPT-2's printable characters.
pub(super) fn to_chars(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte_char(byte)).collect()
}
