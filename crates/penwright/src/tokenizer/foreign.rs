//! Tokenizers of other programs: `vocab.json` with `merges.txt`, as GPT-2 was published, and the lists of a GGUF file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::bytes::{Added, ByteTokenizer, Vocabulary, owned_pairs, owned_tokens};
use super::split::Scheme;
use super::{CONFIG, FILE, Inner, Level, Tokenizer};
use crate::files::read_json;
use crate::{Error, Result};

const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const ADDED: &str = "added_tokens.json";
const SPECIAL: &str = "special_tokens_map.json";
/// Hugging Face's names for tokenizers that cut text as GPT-2 does.
const CLASSES: [&str; 5] =
    ["GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"];

/// What a token of a list stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes, in GPT-2's printable characters.
    Bytes,
    /// Its own text, added to the vocabulary.
    Added,
    /// No text.
    Special,
    /// Nothing: an id that is left over.
    Unused,
}

/// A byte-level BPE as lists.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    /// The tokens by id.
    pub(crate) tokens: Vec<(String, Kind)>,
    /// Pairs to merge, the first ones first.
    pub(crate) merges: Vec<(String, String)>,
    /// The end-of-text token; `None` where its name must tell.
    pub(crate) eot: Option<u32>,
}

impl Tokenizer {
    /// The tokenizer as lists.
    ///
    /// # Errors
    /// When it is no byte-level BPE; the sentence says that `format` knows no other.
    pub(crate) fn lists(&self, format: &str) -> Result<Lists> {
        let tokenizer = match &self.inner {
            Inner::Bytes(tokenizer) if tokenizer.level != Level::Word => tokenizer,
            _ => {
                let level = self.level();
                return Err(Error::Unsupported(format!(
                    "{format} knows byte-level BPE alone, and this model's tokenizer is of the level {level}; train with --level bpe or gpt2"
                )));
            }
        };
        let mut tokens: Vec<(String, Kind)> = (0..tokenizer.vocab_size() as u32)
            .map(|id| match super::bytes::to_chars(tokenizer.token(id)) {
                text if text.is_empty() => (text, Kind::Unused),
                text => (text, Kind::Bytes),
            })
            .collect();
        for Added { id, content, special } in tokenizer.added() {
            if let Some(token) = tokens.get_mut(*id as usize) {
                *token = (content.clone(), if *special { Kind::Special } else { Kind::Added });
            }
        }
        Ok(Lists { tokens, merges: tokenizer.merges().collect(), eot: Some(tokenizer.eot) })
    }

    /// A tokenizer of lists. The error says what is wrong, without a subject.
    pub(crate) fn from_lists(lists: Lists) -> Result<Self, String> {
        let Lists { tokens: list, merges, eot } = lists;
        let eos = match eot {
            None => None,
            Some(id) => {
                let token = list.get(id as usize).ok_or_else(|| format!("has no token {id} to end a text"))?;
                Some(token.0.clone())
            }
        };
        let (mut named, mut added) = (Vec::with_capacity(list.len()), Vec::new());
        for ((text, kind), id) in list.into_iter().zip(0..) {
            match kind {
                Kind::Bytes => named.push((text, id)),
                Kind::Added | Kind::Special => added.push(Added { id, content: text, special: kind == Kind::Special }),
                Kind::Unused => {}
            }
        }
        let count = named.len();
        let tokens: BTreeMap<String, u32> = named.into_iter().collect();
        if tokens.len() < count {
            return Err("has two tokens that are alike".into());
        }
        let (tokens, merges) = (owned_tokens(tokens), owned_pairs(merges));
        let vocabulary = Vocabulary::ending(Scheme::Gpt2, tokens, merges, added, eos.as_deref())?;
        Ok(Tokenizer { inner: Inner::Bytes(Arc::new(ByteTokenizer::new(vocabulary)?)) })
    }
}

/// Reads `vocab.json` and `merges.txt`, and what `added_tokens.json`, `special_tokens_map.json` and
/// `tokenizer_config.json` add to them.
pub(super) fn load(dir: &Path) -> Result<Tokenizer> {
    let missing: Vec<&str> = [VOCAB, MERGES].into_iter().filter(|name| !dir.join(name).exists()).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        return Err(Error::damaged(
            dir,
            format!("has no tokenizer: {FILE} is needed, or {VOCAB} with {MERGES} ({missing} not found)"),
        ));
    }
    let optional = |name: &str| {
        let path = dir.join(name);
        if path.exists() { read_json(&path) } else { Ok(Value::Null) }
    };
    let (config, special, more) = (optional(CONFIG)?, optional(SPECIAL)?, optional(ADDED)?);
    if let Some(class) = config["tokenizer_class"].as_str().filter(|class| !CLASSES.contains(class)) {
        let problem = format!("is for a {class}, which may cut text otherwise than GPT-2; save it as {FILE}");
        return Err(Error::damaged(dir.join(CONFIG), problem));
    }
    let path = dir.join(VOCAB);
    let tokens = ids(&read_json(&path)?).ok_or_else(|| {
        Error::damaged(&path, "is no list of tokens with their ids; copy it again from where the model is")
    })?;
    let merges = merges(&dir.join(MERGES))?;
    let specials = special_names(&config, &special);
    let added = added(&config, &more, &tokens, &specials)
        .ok_or_else(|| Error::damaged(dir, format!("has a damaged {ADDED} or {CONFIG}; copy them again")))?;
    let eos = [&config, &special].into_iter().find_map(|json| name_of(&json["eos_token"]));
    let (tokens, merges) = (owned_tokens(tokens), owned_pairs(merges));
    let tokenizer = Vocabulary::ending(Scheme::Gpt2, tokens, merges, added, eos).and_then(ByteTokenizer::new);
    let tokenizer = tokenizer.map_err(|e| Error::damaged(&path, format!("with {MERGES} {e}")))?;
    Ok(Tokenizer { inner: Inner::Bytes(Arc::new(tokenizer)) })
}

/// Tokens with their ids.
fn ids(json: &Value) -> Option<BTreeMap<String, u32>> {
    let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
    json.as_object()?.iter().map(|(token, value)| Some((token.clone(), id(value)?))).collect()
}

/// A pair a line; a first line that begins with `#version` is none.
fn merges(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let lines = text.lines().enumerate().skip(usize::from(text.starts_with("#version")));
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(n, line)| {
            let pair = line.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(' '));
            let problem = || Error::damaged(path, format!("has no pair of tokens in line {}; copy it again", n + 1));
            pair.map(|(a, b)| (a.into(), b.into())).ok_or_else(problem)
        })
        .collect()
}

/// A token's name: itself, or as the content of an object.
fn name_of(json: &Value) -> Option<&str> {
    json.as_str().or(json["content"].as_str())
}

/// The names under `…_token` and `additional_special_tokens`.
fn special_names<'a>(config: &'a Value, special: &'a Value) -> BTreeSet<&'a str> {
    let entries = [config, special].into_iter().filter_map(Value::as_object).flatten();
    entries
        .flat_map(|(key, value)| match value {
            Value::Array(list) if key == "additional_special_tokens" => list.iter().filter_map(name_of).collect(),
            _ if key.ends_with("_token") => Vec::from_iter(name_of(value)),
            _ => Vec::new(),
        })
        .collect()
}

/// The tokens beside the byte-level ones; `None` where the files are damaged.
fn added(
    config: &Value,
    more: &Value,
    tokens: &BTreeMap<String, u32>,
    specials: &BTreeSet<&str>,
) -> Option<Vec<Added>> {
    let mut added = BTreeMap::new();
    let mut add = |id: u32, content: &str, special: bool| {
        added.insert(id, Added { id, content: content.into(), special });
    };
    for (name, id) in specials.iter().filter_map(|&name| Some((name, *tokens.get(name)?))) {
        add(id, name, true);
    }
    if !more.is_null() {
        ids(more)?.iter().for_each(|(name, &id)| add(id, name, specials.contains(name.as_str())));
    }
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let name = name_of(token)?;
        add(id.parse().ok()?, name, token["special"] == true || specials.contains(name));
    }
    Some(added.into_values().collect())
}
