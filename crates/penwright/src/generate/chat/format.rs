//! How the turns of a conversation are written: names, or markers that a model was trained on.

use std::path::Path;

use serde_json::Value;

use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Stands in a marker for the tokenizer's end-of-text token, whatever its name.
const EOT: &str = "<|endoftext|>";

/// How turns are written: what stands before and after the text of each.
///
/// | format | the system's text, the person's turn, the model's turn |
/// | --- | --- |
/// | names | `TEXT⏎⏎` `User: TEXT⏎` `Assistant: TEXT⏎` |
/// | markers | the same with other words for `User:` and `Assistant:`, one before the system's text, one after each |
/// | ChatML | `<\|im_start\|>system⏎TEXT<\|im_end\|>⏎`, and so for `user` and `assistant` |
/// | tags | `<\|system\|>⏎TEXT<\|end\|>⏎`, and so for `<\|user\|>` and `<\|assistant\|>` |
/// | end-of-text | `TEXT<\|endoftext\|>` for each, as DialoGPT was trained (Zhang et al. 2020) |
///
/// Where a marker is the name of one of the tokenizer's added tokens, it is that token, else it is text; what the
/// person or the system's text says is always text.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatFormat {
    pub(super) system: [String; 2],
    pub(super) user: [String; 2],
    pub(super) bot: [String; 2],
    what: String,
}

/// Markers of the texts that a model was trained on, such as `### Human:`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Markers {
    /// Before the person's turn, instead of `User:`. A space follows unless it ends in white space.
    pub user: Option<String>,
    /// Before the model's turn, instead of `Assistant:`.
    pub bot: Option<String>,
    /// Before the system's text; none otherwise.
    pub system: Option<String>,
    /// After every turn, exactly as given, instead of a line end.
    pub end: Option<String>,
}

impl ChatFormat {
    /// `User: …` and `Assistant: …`, each on a line of its own.
    ///
    /// # Errors
    /// When a name is empty or longer than a line, or both are one.
    pub fn names(user: &str, bot: &str) -> Result<Self> {
        for (flag, name) in [("user", user), ("bot", bot)] {
            if name.trim().is_empty() || name.contains(['\n', '\r']) {
                return Err(Error::setting(flag, "must be a name on one line, such as Ann"));
            }
        }
        if user == bot {
            return Err(Error::setting("bot", format!("both sides cannot be called {user:?}; give another name")));
        }
        let turn = |name: &str| [format!("{name}: "), "\n".into()];
        let (user, bot) = (turn(user), turn(bot));
        Ok(ChatFormat { system: [String::new(), "\n\n".into()], user, bot, what: "names".into() })
    }

    /// Markers of one's own; what is not given is as with [`ChatFormat::names`].
    ///
    /// # Errors
    /// When a marker is empty, or both turns have the same.
    pub fn markers(markers: &Markers, user: &str, bot: &str) -> Result<Self> {
        let Markers { user: u, bot: b, system, end } = markers;
        for (flag, marker) in [("user-marker", u), ("bot-marker", b), ("system-marker", system), ("end-marker", end)] {
            if marker.as_deref().is_some_and(|marker| marker.trim().is_empty()) {
                return Err(Error::setting(flag, "is empty; leave it out, or give what the training text has"));
            }
        }
        let mut format = Self::names(user, bot)?;
        format.what = "the given markers".into();
        let spaced = |marker: &str| match marker.ends_with(char::is_whitespace) {
            true => marker.to_string(),
            false => format!("{marker} "),
        };
        for (turn, marker) in [(&mut format.user, u), (&mut format.bot, b), (&mut format.system, system)] {
            if let Some(marker) = marker {
                turn[0] = spaced(marker);
            }
            if let Some(end) = end {
                turn[1].clone_from(end);
            }
        }
        if format.user[0].trim() == format.bot[0].trim() {
            return Err(Error::setting("bot-marker", "is that of the other side; give another"));
        }
        Ok(format)
    }

    /// ChatML.
    pub fn chatml() -> Self {
        let turn = |role: &str| [format!("<|im_start|>{role}\n"), "<|im_end|>\n".into()];
        let (system, user, bot) = (turn("system"), turn("user"), turn("assistant"));
        ChatFormat { system, user, bot, what: "ChatML".into() }
    }

    /// `<|user|>` and the like, each turn ending in `end`.
    pub fn tags(end: &str) -> Self {
        let turn = |role: &str| [format!("<|{role}|>\n"), format!("{end}\n")];
        let (system, user, bot) = (turn("system"), turn("user"), turn("assistant"));
        ChatFormat { system, user, bot, what: "<|user|>, <|assistant|>".into() }
    }

    /// Turns that follow one another with nothing but end-of-text after each.
    pub fn end_of_text() -> Self {
        let turn = || [String::new(), EOT.to_string()];
        ChatFormat { system: turn(), user: turn(), bot: turn(), what: "turns that end in end-of-text".into() }
    }

    /// The format of that name: `chatml`, `tags` or `eot`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "chatml" => Some(Self::chatml()),
            "tags" => Some(Self::tags("<|end|>")),
            "eot" => Some(Self::end_of_text()),
            _ => None,
        }
    }

    /// The format that a `chat_template` (Jinja) writes, if it is one of the simple families. The template is not
    /// run; the family shows in the markers that it names.
    pub fn recognise(template: &str) -> Option<Self> {
        let has = |words: &[&str]| words.iter().all(|word| template.contains(word));
        let of = |mut format: Self| {
            format.what.push_str(", from the chat template");
            format
        };
        if has(&["<|im_start|>"]) {
            return Some(of(Self::chatml()));
        }
        if has(&["<|user|>", "<|assistant|>"]) {
            let end = ["<|end|>", "</s>"].into_iter().find(|end| template.contains(end));
            return Some(of(Self::tags(end.unwrap_or(if template.contains("eos_token") { EOT } else { "" }))));
        }
        if has(&["### Instruction:", "### Response:"]) {
            let turn = |marker: &str| [format!("{marker}\n"), "\n\n".into()];
            let mut format = Self::end_of_text();
            format.system = [String::new(), "\n\n".into()];
            (format.user, format.bot) = (turn("### Instruction:"), turn("### Response:"));
            format.what = "### Instruction, ### Response".into();
            return Some(of(format));
        }
        for (user, bot) in [("### Human", "### Assistant"), ("User", "Assistant"), ("Human", "Assistant")] {
            if has(&[&format!("{user}:"), &format!("{bot}:")]) {
                return Self::names(user, bot).ok().map(of);
            }
        }
        let by_role = ["['role']", "[\"role\"]", ".role"].iter().any(|role| template.contains(role));
        (has(&["eos_token"]) && !by_role).then(|| of(Self::end_of_text()))
    }

    /// The format that a model in this folder was made for: by its chat template, else by its vocabulary, if either
    /// says.
    pub fn of_model(dir: &Path, tokenizer: &Tokenizer) -> Option<Self> {
        let template = chat_template(dir);
        template.as_deref().and_then(Self::recognise).or_else(|| Self::in_vocabulary(tokenizer))
    }

    /// The format for which the vocabulary has tokens of its own, if any.
    pub fn in_vocabulary(tokenizer: &Tokenizer) -> Option<Self> {
        let tokens = tokenizer.special_tokens();
        let has = |name: &str| tokens.iter().any(|(token, _)| *token == name);
        let mut format = match () {
            () if has("<|im_start|>") && has("<|im_end|>") => Self::chatml(),
            () if has("<|user|>") && has("<|assistant|>") => Self::tags(if has("<|end|>") { "<|end|>" } else { EOT }),
            () => return None,
        };
        format.what.push_str(", from the vocabulary");
        Some(format)
    }

    /// The format for people.
    pub fn describe(&self) -> &str {
        &self.what
    }
}

/// The chat template of a run or a Hugging Face directory: `chat_template.jinja`, else the one that
/// `tokenizer_config.json` holds (of several, that named `default`).
pub fn chat_template(dir: &Path) -> Option<String> {
    if let Ok(template) = std::fs::read_to_string(dir.join("chat_template.jinja")) {
        return Some(template);
    }
    let config: Value = serde_json::from_slice(&std::fs::read(dir.join("tokenizer_config.json")).ok()?).ok()?;
    match &config["chat_template"] {
        Value::String(template) => Some(template.clone()),
        Value::Array(all) => {
            let default = all.iter().find(|one| one["name"] == "default").or(all.first())?;
            default["template"].as_str().map(String::from)
        }
        _ => None,
    }
}

/// A part of a marker or turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Token(u32),
}

/// A format in the tokens of one tokenizer.
pub(super) struct Turns {
    pub(super) system: [Vec<Piece>; 2],
    pub(super) user: [Vec<Piece>; 2],
    /// Without the spaces at its end: they belong to the model's first word.
    pub(super) bot: Vec<Piece>,
    pub(super) gap: String,
    /// The text between the model's turn and the person's next, up to its first token.
    pub(super) lead: String,
    /// What follows it.
    pub(super) after_lead: Vec<Piece>,
    /// Tokens that end the model's turn.
    pub(super) ends: Vec<u32>,
    /// Strings that end it.
    pub(super) stops: Vec<String>,
}

impl Turns {
    pub(super) fn new(format: &ChatFormat, tokenizer: &Tokenizer) -> Self {
        let mut names: Vec<(&str, u32)> = tokenizer.special_tokens();
        names.retain(|(name, _)| !name.is_empty());
        names.push((EOT, tokenizer.eot()));
        let pieces = |marker: &String| pieces(marker, &names);
        let bot = format.bot[0].trim_end_matches(' ');
        let next = pieces(&(format.bot[1].clone() + &format.user[0]));
        let (lead, after_lead) = match next.split_first() {
            Some((Piece::Text(lead), rest)) => (lead.clone(), rest.to_vec()),
            _ => (String::new(), next.clone()),
        };
        let all = [&next, &pieces(&format.bot[0]), &pieces(&format.system[0])];
        let tokens = all.into_iter().flatten().filter_map(|piece| match piece {
            Piece::Token(id) => Some(*id),
            Piece::Text(_) => None,
        });
        let ends = tokens.chain([tokenizer.eot()]).collect();
        Turns {
            system: format.system.each_ref().map(pieces),
            user: format.user.each_ref().map(pieces),
            bot: pieces(&bot.to_string()),
            gap: format.bot[0][bot.len()..].to_string(),
            lead,
            after_lead,
            ends,
            stops: stops(format, pieces),
        }
    }
}

/// The strings that end the model's turn: what stands after it, and at the beginning of a line (where turns begin
/// there) what stands before any turn. Markers that are tokens are none.
fn stops(format: &ChatFormat, pieces: impl Fn(&String) -> Vec<Piece>) -> Vec<String> {
    let text = |marker: &str| match pieces(&marker.to_string()).as_slice() {
        [Piece::Text(text)] if !text.trim().is_empty() => Some(text.clone()),
        _ => None,
    };
    let close = &format.bot[1];
    let line = if close.ends_with('\n') { "\n" } else { "" };
    let opens = [&format.user[0], &format.bot[0]].into_iter().filter_map(|open| text(open.trim()));
    let mut stops: Vec<String> = opens.map(|open| format!("{line}{open}")).chain(text(close.trim())).collect();
    stops.sort();
    stops.dedup();
    stops
}

/// A marker cut at the names of tokens, the longest name first where several begin.
fn pieces(marker: &str, names: &[(&str, u32)]) -> Vec<Piece> {
    let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), marker);
    while let Some(c) = rest.chars().next() {
        let name = names.iter().filter(|(name, _)| rest.starts_with(name)).max_by_key(|(name, _)| name.len());
        match name {
            Some((name, id)) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Token(*id));
                rest = &rest[name.len()..];
            }
            None => {
                text.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// The tokens of pieces; texts that touch are one text.
pub(super) fn encode<'a>(pieces: impl IntoIterator<Item = &'a Piece>, tokenizer: &Tokenizer) -> Vec<u32> {
    let (mut tokens, mut text) = (Vec::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Text(more) => text.push_str(more),
            Piece::Token(id) => {
                tokens.extend(tokenizer.encode(&text));
                tokens.push(*id);
                text.clear();
            }
        }
    }
    tokens.extend(tokenizer.encode(&text));
    tokens
}
