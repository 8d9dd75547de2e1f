//! A conversation: turns, the model's being written by it.

mod format;
mod history;
mod past;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::ending::Ending;
use super::sampling::{Sampler, Sampling, Scratch};
use super::writing::{Prompt, Writing, shared_vocab};
use super::{FinishReason, OnText, Sample, clean_prompt};
use crate::model::{LanguageModel, ModelKind, Session};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use format::{Piece, Turns, encode};
use past::Past;

pub use format::{ChatFormat, Markers, chat_template};
pub use history::{Message, Role, read_history, write_history};

/// How a conversation is held.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// How turns are written.
    pub format: ChatFormat,
    /// What the model is told before the first turn; empty for nothing.
    pub system: String,
    /// How tokens are chosen. The repetition penalty and the n-gram rule look at the model's own turns alone, so that
    /// nothing keeps it from ending one.
    pub sampling: Sampling,
    /// Tokens of a reply at most.
    pub tokens: usize,
    /// Further strings before which a reply ends.
    pub stop: Vec<String>,
}

/// What the model answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Its text, without white space at either end.
    pub content: String,
    /// Tokens written, those of a marker or stop string included, a token that ends the turn not.
    pub tokens: usize,
    /// `Stop`: the turn ended by itself or at a stop string.
    pub finish_reason: FinishReason,
    /// Oldest exchanges that were dropped for it, because the model's context was full.
    pub dropped: usize,
    /// Whether the person's turn alone was too long for the context, so that the model has read only its end.
    pub cut: bool,
}

/// A turn of the person and the model's reply.
#[derive(Clone, Debug, Default)]
struct Exchange {
    user: String,
    reply: String,
    /// How often the reply was written anew.
    retries: u64,
    /// Where its tokens, and those of its reply, begin.
    start: usize,
    reply_at: usize,
    /// What is due after those tokens, before the next turn's text.
    due: Vec<Piece>,
    /// Its beginning is not in the context.
    cut: bool,
}

/// A conversation between a person and a model.
///
/// The session keeps all that was said: a turn costs the reading of its own tokens, the reply's are never read again.
/// (After [`undo`](Chat::undo) and [`retry`](Chat::retry) of the last exchange the session goes back to a copy; a reply
/// that ended at a string of [`ChatOptions::stop`] is read once more without it.)
///
/// When a GPT-2's context `C` is full, that is when the turns so far, the new one and room for a reply
/// (`min(tokens, S / 4)`, `S` being `C` less the system's text) exceed it, or when a reply outgrows that room, the
/// oldest exchanges are dropped until the rest takes at most `S / 2`, and that rest is read anew after the system's
/// text. The newest exchange is never dropped; if it does not fit by itself, its last `S / 2` tokens stay. The other
/// models forget, or not, by themselves.
///
/// The same seed and the same turns give the same replies; a reply's random numbers depend on the seed, the number of
/// its turn and how often it was written anew.
pub struct Chat<'a> {
    tokenizer: &'a Tokenizer,
    turns: Turns,
    past: Past,
    sampler: Sampler,
    scratch: Scratch,
    options: ChatOptions,
    stops: Arc<[String]>,
    context: Option<usize>,
    /// Tokens of the system's text, end-of-text before it included.
    head: usize,
    exchanges: Vec<Exchange>,
    /// The oldest exchange that is in the context.
    first: usize,
}

impl<'a> Chat<'a> {
    /// Begins a conversation.
    ///
    /// # Errors
    /// When an option cannot work, the system's text takes more than half of the context, or memory is short.
    pub fn new(model: &Arc<dyn LanguageModel>, tokenizer: &'a Tokenizer, options: ChatOptions) -> Result<Self> {
        Self::begin(model, tokenizer, options, |model| model.clone().session(2).map(Some))
    }

    fn begin(
        model: &Arc<dyn LanguageModel>,
        tokenizer: &'a Tokenizer,
        options: ChatOptions,
        session: impl FnOnce(&Arc<dyn LanguageModel>) -> Result<Option<Box<dyn Session>>>,
    ) -> Result<Self> {
        options.sampling.check()?;
        if options.tokens == 0 {
            return Err(Error::setting("tokens", "must be at least 1"));
        }
        if options.stop.iter().any(String::is_empty) {
            return Err(Error::setting("stop", "an empty string would end a reply before it begins"));
        }
        let turns = Turns::new(&options.format, tokenizer);
        // Special tokens are never generated, except those that end a turn.
        let suppressed: Vec<u32> =
            tokenizer.suppressed().iter().copied().filter(|id| !turns.ends.contains(id)).collect();
        let stops = turns.stops.iter().chain(&options.stop).cloned().collect();
        // An n-gram model's session slides at no cost.
        let context = model.context().filter(|&c| c >= 8 && model.kind() == ModelKind::Gpt2);
        let mut chat = Chat {
            tokenizer,
            past: Past::new(session(model)?),
            sampler: Sampler::new(&options.sampling, shared_vocab(model, tokenizer), &suppressed),
            scratch: Scratch::default(),
            turns,
            stops,
            context,
            head: 0,
            exchanges: Vec::new(),
            first: 0,
            options,
        };
        let system = std::mem::take(&mut chat.options.system);
        chat.set_system(&system)?;
        Ok(chat)
    }

    /// The conversation so far; the system's text first if there is one.
    pub fn messages(&self) -> Vec<Message> {
        let system = Some(&self.options.system).filter(|text| !text.is_empty());
        let mut messages: Vec<Message> = system.map(|text| Message::new(Role::System, text)).into_iter().collect();
        for exchange in &self.exchanges {
            messages.push(Message::new(Role::User, &exchange.user));
            messages.push(Message::new(Role::Assistant, &exchange.reply));
        }
        messages
    }

    /// Takes up a conversation in place of the present one. Turns of one side in a row become one. A system's text
    /// among them replaces the present one; without any, that stays.
    ///
    /// # Errors
    /// When it does not begin with the person's turn and end with the model's, or as [`Chat::set_system`].
    pub fn load(&mut self, messages: &[Message]) -> Result<()> {
        let (mut system, mut exchanges, mut last) = (None, Vec::<Exchange>::new(), Role::Assistant);
        for Message { role, content } in messages {
            let content = clean_prompt(content);
            let join = |text: &mut String| {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&content);
            };
            match (role, exchanges.last_mut()) {
                (Role::System, _) => join(system.get_or_insert_default()),
                (Role::User, Some(exchange)) if last == Role::User => join(&mut exchange.user),
                (Role::User, _) => exchanges.push(Exchange { user: content, ..Exchange::default() }),
                (Role::Assistant, Some(exchange)) => join(&mut exchange.reply),
                (Role::Assistant, None) => {
                    let problem = "the conversation begins with the assistant's turn; it must begin with the user's";
                    return Err(Error::Text(problem.into()));
                }
            }
            last = if *role == Role::System { last } else { *role };
        }
        if last == Role::User {
            let problem = "the conversation ends with the user's turn; take it out and send it as the next turn";
            return Err(Error::Text(problem.into()));
        }
        let before = std::mem::replace(&mut self.exchanges, exchanges);
        let system = system.unwrap_or_else(|| self.options.system.clone());
        let set = self.set_system(&system);
        if set.is_err() {
            self.exchanges = before;
        }
        set
    }

    /// Tells the model something else before the first turn. The conversation stays and is read anew.
    ///
    /// # Errors
    /// When the text takes more than half of the context; the one before then stays.
    pub fn set_system(&mut self, text: &str) -> Result<()> {
        let before = std::mem::replace(&mut self.options.system, clean_prompt(text));
        let head = self.head_tokens().len();
        if let Some(context) = self.context.filter(|context| 2 * head > *context) {
            self.options.system = before;
            let problem = format!("takes {head} tokens of the {context} that the model can see; give half as many");
            return Err(Error::setting("system", problem));
        }
        self.rebuild(None, 1);
        Ok(())
    }

    /// Says something; the reply comes through `on_text` (sample 0) as far as it is certain, never a marker nor the
    /// beginning of one, and whole in the result. Breaking off keeps what was handed out.
    ///
    /// # Errors
    /// When the model fails or its memory cannot be had; the conversation is then as before.
    pub fn send(&mut self, text: &str, on_text: OnText<'_>) -> Result<Reply> {
        self.say(text);
        let reply = self.answer(on_text);
        if reply.is_err() {
            self.undo();
        }
        reply
    }

    /// Lays the person's turn, and what calls for the reply.
    fn say(&mut self, text: &str) {
        let user = clean_prompt(text);
        let prompt = self.prompt(self.due(self.exchanges.len()), &user);
        let start = self.past.len();
        self.past.append(&prompt);
        let reply_at = self.past.len();
        self.exchanges.push(Exchange { user, start, reply_at, ..Exchange::default() });
    }

    /// Writes the last reply anew, with other random numbers; nothing when there is none.
    ///
    /// # Errors
    /// When the model fails; the exchange is then taken back.
    pub fn retry(&mut self, on_text: OnText<'_>) -> Result<Option<Reply>> {
        let Some(last) = self.exchanges.last_mut() else { return Ok(None) };
        last.retries += 1;
        last.reply.clear();
        match last.cut {
            true => self.rebuild(Some(&[]), self.room()),
            false => self.past.truncate(last.reply_at),
        }
        let reply = self.answer(on_text);
        if reply.is_err() {
            self.undo();
        }
        reply.map(Some)
    }

    /// Takes back the last exchange and returns what the person had said.
    pub fn undo(&mut self) -> Option<String> {
        let last = self.exchanges.pop()?;
        self.past.truncate(last.start);
        if self.first >= self.exchanges.len() {
            self.rebuild(None, 1); // dropped exchanges come back
        }
        Some(last.user)
    }

    /// Exchanges that are no longer in the context.
    pub fn forgotten(&self) -> usize {
        self.first
    }

    fn head_tokens(&self) -> Vec<u32> {
        let mut head = vec![self.tokenizer.eot()];
        if !self.options.system.is_empty() {
            let text = Piece::Text(self.options.system.clone());
            head.extend(encode(self.turns.system[0].iter().chain([&text]), self.tokenizer));
        }
        head
    }

    /// What is due before the person's text of exchange `i`.
    fn due(&self, i: usize) -> Vec<Piece> {
        match i.checked_sub(1).filter(|_| i > self.first).and_then(|before| self.exchanges.get(before)) {
            Some(before) => before.due.clone(),
            None if self.options.system.is_empty() => self.turns.user[0].clone(),
            None => [&self.turns.system[1][..], &self.turns.user[0]].concat(),
        }
    }

    /// The tokens of the person's turn and of what calls for the reply.
    fn prompt(&self, mut due: Vec<Piece>, user: &str) -> Vec<u32> {
        due.push(Piece::Text(user.into()));
        encode(due.iter().chain(&self.turns.user[1]).chain(&self.turns.bot), self.tokenizer)
    }

    /// What follows a reply, after `rest`, the end of its text that has no tokens yet.
    fn after_reply(&self, rest: &str) -> Vec<Piece> {
        [&[Piece::Text(rest.into())], &self.turns.after_lead[..]].concat()
    }

    /// Tokens that a new reply must find free in the context.
    fn room(&self) -> usize {
        let space = self.context.map_or(usize::MAX, |context| context - self.head);
        self.options.tokens.min(space / 4).max(1)
    }

    /// Encodes the conversation anew, with as much of it as leaves `room` (see [`Chat`]). `tail`: what the last reply,
    /// being written, has.
    fn rebuild(&mut self, tail: Option<&[u32]>, room: usize) {
        self.head = self.head_tokens().len();
        let space = self.context.map_or(usize::MAX, |context| context - self.head);
        let (due, n) = (self.after_reply(&self.turns.lead), self.exchanges.len());
        // Newest first, each as it stands after another; until there are too many.
        let (mut parts, mut sum, mut half) = (Vec::new(), 0, n);
        for (i, exchange) in self.exchanges.iter().enumerate().rev() {
            let reply = match tail {
                Some(tail) if i + 1 == n => tail.to_vec(),
                _ if exchange.reply.is_empty() => Vec::new(),
                _ => self.tokenizer.encode(&format!("{}{}", self.turns.gap, exchange.reply)),
            };
            let part = (self.prompt(due.clone(), &exchange.user), reply);
            sum += part.0.len() + part.1.len();
            parts.push(part);
            if sum <= space / 2 || i + 1 == n {
                half = i;
            }
            if sum > space - room {
                break;
            }
        }
        self.first = if sum > space - room { half } else { 0 };
        let mut window = self.lay(&parts, &due);
        // The first exchange stands after the system's text, which may take a token more.
        while window.len() - self.head > space - room && self.first + 1 < n {
            self.first += 1;
            window = self.lay(&parts, &due);
        }
        let size = window.len() - self.head;
        if let Some(last) = self.exchanges.last_mut().filter(|_| size > space - room) {
            let lost = size - space / 2;
            window.drain(self.head..self.head + lost);
            last.reply_at = last.reply_at.saturating_sub(lost).max(self.head);
            last.cut = true;
        }
        self.past.replace(window);
    }

    /// The tokens of the system's text and of the exchanges from the first one kept, where they lie from now on.
    fn lay(&mut self, parts: &[(Vec<u32>, Vec<u32>)], due: &[Piece]) -> Vec<u32> {
        let mut window = self.head_tokens();
        let begin = self.exchanges.get(self.first).map(|first| self.prompt(self.due(self.first), &first.user));
        let kept = self.exchanges.get_mut(self.first..).unwrap_or_default();
        for (i, (exchange, (prompt, reply))) in kept.iter_mut().rev().zip(parts).rev().enumerate() {
            let prompt = begin.as_ref().filter(|_| i == 0).unwrap_or(prompt);
            (exchange.start, exchange.reply_at) = (window.len(), window.len() + prompt.len());
            (exchange.due, exchange.cut) = (due.to_vec(), false);
            window.extend(prompt);
            window.extend(reply);
        }
        window
    }

    /// Reads what is not read yet; keeps a copy of the state before the last exchange.
    fn read(&mut self) -> Result<()> {
        if let Some(last) = self.exchanges.last() {
            self.past.read_to(last.start)?;
            self.past.remember(last.start);
        }
        self.past.read_to(self.past.len())
    }

    /// Drops the oldest exchanges if the context has no room for a reply.
    fn make_room(&mut self) {
        let room = self.room();
        if self.context.is_some_and(|context| self.past.len() + room > context) {
            self.rebuild(Some(&[]), room);
        }
    }

    /// Writes the reply of the last exchange.
    fn answer(&mut self, on_text: OnText<'_>) -> Result<Reply> {
        let before = self.first;
        self.make_room();
        self.read()?;
        let mut reply = self.write(on_text)?;
        reply.dropped = self.first.saturating_sub(before);
        if let Some(last) = self.exchanges.last_mut() {
            last.reply.clone_from(&reply.content);
            reply.cut = last.cut;
        }
        Ok(reply)
    }

    fn write(&mut self, on_text: OnText<'_>) -> Result<Reply> {
        let mut text = Writing::new(&Arc::new(self.to_continue()), self.number());
        loop {
            if let Some(token) = text.next(&mut self.scratch, self.past.log_probs()) {
                self.past.append(&[token.id]);
            }
            if on_text(0, &text.fresh()).is_break() {
                text.cancel();
            }
            if text.finished().is_some() {
                break;
            }
            if self.context.is_some_and(|context| self.past.len() > context) {
                self.rebuild(Some(text.written()), 1);
            }
            self.read()?;
        }
        self.close(text.written(), text.untrimmed());
        let Sample { text: content, tokens, finish_reason, .. } = text.sample();
        Ok(Reply { content, tokens, finish_reason, dropped: 0, cut: false })
    }

    /// The conversation up to the reply that is due.
    fn to_continue(&self) -> Prompt {
        Prompt {
            tokenizer: self.tokenizer.clone(),
            tokens: self.past.tokens().get(1..).unwrap_or_default().to_vec(),
            seen: self.said(),
            sampler: self.sampler.clone(),
            ending: Ending::new(self.stops.clone(), None),
            ends: self.turns.ends.clone(),
            most: self.options.tokens,
            trims: true,
        }
    }

    /// The reply that is due after these turns, and its number (see [`Prompt::of_chat`]).
    pub(super) fn due_reply(
        model: &Arc<dyn LanguageModel>,
        tokenizer: &'a Tokenizer,
        options: ChatOptions,
        messages: &[Message],
    ) -> Result<(Prompt, u64)> {
        let said = messages.iter().rposition(|message| message.role == Role::Assistant).map_or(0, |last| last + 1);
        let (said, due) = messages.split_at(said);
        let (systems, turns): (Vec<_>, Vec<_>) = due.iter().cloned().partition(|turn| turn.role == Role::System);
        if turns.is_empty() {
            return Err(Error::Text("there is nothing to reply to: the last turn must be the user's".into()));
        }
        let mut chat = Chat::begin(model, tokenizer, options, |_| Ok(None))?;
        chat.load(&[said, &systems].concat())?;
        chat.say(&turns.iter().map(|turn| turn.content.as_str()).collect::<Vec<_>>().join("\n"));
        chat.make_room();
        Ok((chat.to_continue(), chat.number()))
    }

    /// The number of the reply that is due, from which its random numbers are.
    fn number(&self) -> u64 {
        let last = self.exchanges.len().saturating_sub(1);
        let retries = self.exchanges.last().map_or(0, |exchange| exchange.retries);
        (last as u64).wrapping_add(retries << 32)
    }

    /// What the model itself has said, as far as the context reaches.
    fn said(&self) -> Vec<u32> {
        let kept = self.exchanges.get(self.first..).unwrap_or_default();
        kept.iter().flat_map(|exchange| self.tokenizer.encode(&exchange.reply)).collect()
    }

    /// Ends the last exchange: of the written tokens, those stay that make the reply's text or what follows it in any
    /// case, as a part of a marker does.
    fn close(&mut self, written: &[u32], text: &str) {
        let kept = |text: &str| {
            let target = format!("{text}{}", self.turns.lead);
            (0..=written.len()).rev().find_map(|k| {
                let bytes = self.tokenizer.decode_bytes(written.get(..k)?);
                let rest = target.get(bytes.len()..).filter(|_| target.as_bytes().starts_with(&bytes))?;
                Some((k, rest.to_string()))
            })
        };
        // The model may put more or less white space before a marker than the format does.
        let (exact, trimmed) = (kept(text).unwrap_or_default(), kept(text.trim_end()).unwrap_or_default());
        let (k, rest) = if trimmed.0 > exact.0 { trimmed } else { exact };
        self.past.truncate(self.past.len().saturating_sub(written.len() - k).max(self.head));
        let due = self.after_reply(&rest);
        if let Some(last) = self.exchanges.last_mut() {
            last.due = due;
        }
    }
}
