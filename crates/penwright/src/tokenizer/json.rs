//! `tokenizer.json` of a byte-level BPE. Its hundred thousand strings are borrowed from the file's text where they
//! stand there as they are: they are most of what is done when a model is opened.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::bytes::{Added, ByteTokenizer, Pair, Vocabulary};
use super::split::{self, Scheme};

/// The parts of the file that say something.
#[derive(Deserialize)]
pub(super) struct Json<'a> {
    #[serde(borrow)]
    model: Model<'a>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    added_tokens: Value,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(default, rename = "type")]
    kind: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
    #[serde(default)]
    ignore_merges: Value,
    #[serde(borrow)]
    vocab: Tokens<'a>,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
}

#[derive(Default)]
struct Tokens<'a>(Vec<(Cow<'a, str>, u32)>);

struct Merge<'a>(Pair<'a>);

impl<'a> Json<'a> {
    /// The name of the unknown token; nothing where there is none.
    pub(super) fn unknown(&self) -> &str {
        self.model.unk_token.as_str().unwrap_or_default()
    }

    /// Of a file that is JSON, but not as it is expected. The error says what is wrong, without a subject.
    pub(super) fn of(json: &'a Value) -> Result<Self, String> {
        let model = &json["model"];
        let part = |name: &str| model[name].clone();
        let mut parts = Json {
            model: Model {
                kind: part("type"),
                unk_token: part("unk_token"),
                dropout: part("dropout"),
                continuing_subword_prefix: part("continuing_subword_prefix"),
                end_of_word_suffix: part("end_of_word_suffix"),
                ignore_merges: part("ignore_merges"),
                vocab: Tokens::default(),
                merges: Vec::new(),
            },
            normalizer: json["normalizer"].clone(),
            pre_tokenizer: json["pre_tokenizer"].clone(),
            added_tokens: json["added_tokens"].clone(),
        };
        parts.scheme()?;
        let vocab = model["vocab"].as_object().ok_or("has no vocabulary")?;
        let tokens = vocab.iter().map(|(token, value)| Ok((Cow::from(token), id(value)?)));
        parts.model.vocab = Tokens(tokens.collect::<Result<_, &str>>()?);
        let merges = model["merges"].as_array().ok_or("has no merges")?;
        let merges = merges.iter().map(|value| Merge::deserialize(value).ok()).collect::<Option<_>>();
        parts.model.merges = merges.ok_or("has a merge that is not a pair")?;
        Ok(parts)
    }

    /// How it cuts text, of what can give every text back.
    fn scheme(&self) -> Result<Scheme, String> {
        let model = &self.model;
        if model.kind != "BPE" || set(&self.normalizer) {
            return Err("is no byte-level BPE without a normalizer; other kinds cannot give every text back".into());
        }
        if [&model.dropout, &model.continuing_subword_prefix, &model.end_of_word_suffix].into_iter().any(set) {
            return Err("has dropout, a prefix or a suffix for parts of words, which is not byte-level BPE".into());
        }
        let scheme = scheme_of(&self.pre_tokenizer)?;
        if set(&model.ignore_merges) != scheme.is_words() {
            return Err("has ignore_merges where its pattern has it not; make it anew".into());
        }
        Ok(scheme)
    }

    /// The tokenizer. `eos` names the end-of-text token, else it is `<|endoftext|>`. The error says what is wrong,
    /// without a subject.
    pub(super) fn tokenizer(self, eos: Option<&str>) -> Result<ByteTokenizer, String> {
        let scheme = self.scheme()?;
        let mut added = Vec::new();
        for token in self.added_tokens.as_array().map(Vec::as_slice).unwrap_or_default() {
            let content = token["content"].as_str().ok_or("has an added token without content")?;
            added.push(Added { id: id(&token["id"])?, content: content.into(), special: set(&token["special"]) });
        }
        let merges = self.model.merges.into_iter().map(|merge| merge.0).collect();
        ByteTokenizer::new(Vocabulary::ending(scheme, self.model.vocab.0, merges, added, eos)?)
    }
}

fn id(value: &Value) -> Result<u32, &'static str> {
    value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or("has an id that is none")
}

/// Whether something is asked for.
fn set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && *value != json!("")
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

/// A string, borrowed where it can be.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(text.to_string().into()))
            }
        }
        from.deserialize_str(Strings)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Tokens<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Tokens<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with their ids")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Tokens<'de>, M::Error> {
                let mut tokens = Vec::new();
                while let Some((Text(token), id)) = map.next_entry()? {
                    tokens.push((token, id));
                }
                Ok(Tokens(tokens))
            }
        }
        from.deserialize_map(Entries)
    }
}

/// A pair or, in older files, two tokens with a space between.
impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Merge<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pair of tokens")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, pair: &'de str) -> Result<Merge<'de>, E> {
                let (a, b) = pair.split_once(' ').ok_or_else(|| E::custom("no pair"))?;
                Ok(Merge((a.into(), b.into())))
            }

            fn visit_str<E: serde::de::Error>(self, pair: &str) -> Result<Merge<'de>, E> {
                let (a, b) = pair.split_once(' ').ok_or_else(|| E::custom("no pair"))?;
                Ok(Merge((a.to_string().into(), b.to_string().into())))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut pair: S) -> Result<Merge<'de>, S::Error> {
                let no_pair = || S::Error::custom("no pair");
                let Text(a) = pair.next_element()?.ok_or_else(no_pair)?;
                let Text(b) = pair.next_element()?.ok_or_else(no_pair)?;
                match pair.next_element::<serde::de::IgnoredAny>()? {
                    None => Ok(Merge((a, b))),
                    Some(_) => Err(no_pair()),
                }
            }
        }
        from.deserialize_any(Pairs)
    }
}
