//! Byte-level vocabularies: every byte is a token, so nothing is unknown. Pieces of text are encoded by byte-pair
//! merges (`merge.rs`); at the word level a piece that is a token is that token.
//!
//! In `tokenizer.json` each byte stands as one printable character, as GPT-2 writes them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::merge::{Merges, Work};
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

/// Two tokens that merge.
pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Tokens and pairs that are owned, as a [`Vocabulary`] takes them.
pub(super) fn owned_tokens(tokens: impl IntoIterator<Item = (String, u32)>) -> Vec<(Cow<'static, str>, u32)> {
    tokens.into_iter().map(|(token, id)| (token.into(), id)).collect()
}

/// See [`owned_tokens`].
pub(super) fn owned_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Vec<Pair<'static>> {
    pairs.into_iter().map(|(a, b)| (a.into(), b.into())).collect()
}

/// What a byte-level tokenizer is made of; tokens as GPT-2 writes them.
pub(super) struct Vocabulary<'a> {
    pub(super) level: Level,
    pub(super) scheme: Scheme,
    pub(super) tokens: Vec<(Cow<'a, str>, u32)>,
    /// Pairs to merge, the first ones first.
    pub(super) merges: Vec<Pair<'a>>,
    pub(super) added: Vec<Added>,
    pub(super) eot: u32,
}

pub(super) struct ByteTokenizer {
    pub(super) level: Level,
    pub(super) eot: u32,
    pub(super) suppressed: Vec<u32>,
    scheme: Scheme,
    pairs: Vec<(u32, u32)>,
    merges: Merges,
    added: Vec<Added>,
    /// The bytes of token `i` are `bytes[starts[i]..starts[i + 1]]`.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    byte_ids: [u32; 256],
}

impl ByteTokenizer {
    /// Checks the vocabulary and makes it ready. The error says what is wrong, without a subject.
    pub(super) fn new(vocabulary: Vocabulary<'_>) -> Result<Self, String> {
        let Vocabulary { mut level, scheme, mut tokens, merges, mut added, eot } = vocabulary;
        added.sort_by_key(|token| token.id);
        // Without the added tokens, which text never becomes.
        let names: HashSet<&str> = added.iter().map(|token| token.content.as_str()).collect();
        tokens.retain(|(token, _)| !names.contains(&**token));
        let (bytes, starts) = flatten(&tokens, &added)?;
        let mut ids: HashMap<&str, u32> = HashMap::with_capacity(tokens.len());
        for (token, id) in &tokens {
            if ids.insert(token, *id).is_some() {
                return Err(format!("has {token:?} twice"));
            }
        }
        let mut byte_ids = [0; 256];
        for byte in 0..=255u8 {
            let id = ids.get(&*byte_char(byte).encode_utf8(&mut [0; 4])).copied();
            byte_ids[usize::from(byte)] =
                id.ok_or_else(|| format!("lacks the byte {byte:#04x}; only byte-level BPE with all bytes is known"))?;
        }
        let id = |token: &str| ids.get(token).copied();
        let (mut pairs, mut joined) = (Vec::with_capacity(merges.len()), Vec::with_capacity(merges.len()));
        let mut both = String::new();
        for (a, b) in &merges {
            both.clear();
            both.extend([&**a, b]);
            let (Some(first), Some(second), Some(whole)) = (id(a), id(b), id(&both)) else {
                return Err(format!("merges {a:?} and {b:?}, which are not tokens or make none"));
            };
            pairs.push((first, second));
            joined.push(whole);
        }
        if level == Level::Bpe && scheme == Scheme::Gpt2 && gpt2::published((&bytes, &starts), &pairs, &added, eot) {
            level = Level::Gpt2;
        }
        let text = |id: u32| &bytes[starts[id as usize] as usize..starts[id as usize + 1] as usize];
        let whole = ids.values().filter(|_| scheme.is_words()).map(|&id| (text(id).into(), id)).collect();
        let merges = Merges::new(&pairs, &joined, whole);
        let special = added.iter().filter(|token| token.special && token.id != eot).map(|token| token.id);
        // A token of no bytes is special, or an id without one.
        let hole = |&id: &u32| text(id).is_empty() && added.binary_search_by_key(&id, |token| token.id).is_err();
        let holes = (0..starts.len() as u32 - 1).filter(hole);
        let mut suppressed: Vec<u32> = special.chain(holes).collect();
        suppressed.sort_unstable();
        Ok(ByteTokenizer { level, eot, suppressed, scheme, pairs, merges, added, bytes, starts, byte_ids })
    }

    /// The two tokens that each is merged from, both of them shorter.
    pub(super) fn halves(&self) -> Vec<Option<(u32, u32)>> {
        let mut halves = self.merges.halves(self.vocab_size());
        let is_empty = |id: u32| self.token(id).is_empty();
        halves.iter_mut().for_each(|pair| *pair = pair.filter(|&(a, b)| !is_empty(a) && !is_empty(b)));
        halves
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
        let mut work = Work::default();
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
            self.merges.encode(piece.as_bytes(), &self.byte_ids, &mut work, &mut ids);
            seen.insert(piece, start..ids.len());
        }
        ids
    }

    /// The merges as tokens in printable characters, the first ones first.
    pub(super) fn merges(&self) -> impl Iterator<Item = (String, String)> {
        self.pairs.iter().map(|&(a, b)| (to_chars(self.token(a)), to_chars(self.token(b))))
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
}

impl<'a> Vocabulary<'a> {
    /// A vocabulary made elsewhere, whose end-of-text token has the name `eos` or, where that is no token,
    /// [`ENDOFTEXT`].
    pub(super) fn ending(
        scheme: Scheme,
        tokens: Vec<(Cow<'a, str>, u32)>,
        merges: Vec<Pair<'a>>,
        mut added: Vec<Added>,
        eos: Option<&str>,
    ) -> Result<Self, String> {
        let named = |name: &str| {
            let added = added.iter().find(|token| token.content == name).map(|token| token.id);
            added.or_else(|| tokens.iter().find(|token| token.0 == name).map(|token| token.1))
        };
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

/// All tokens' bytes in one block and where each begins. Ids far beyond the number of tokens are damage.
fn flatten(tokens: &[(Cow<'_, str>, u32)], added: &[Added]) -> Result<(Vec<u8>, Vec<u32>), String> {
    let byte_level = tokens.iter().map(|(token, id)| (*id, &**token, true));
    let plain = added.iter().map(|token| (token.id, if token.special { "" } else { &*token.content }, false));
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
