//! A text being written: the model's log-probabilities go in, a token and some text come out. [`generate`](super::generate),
//! [`Chat`](super::Chat) and a server that batches many texts drive the same type, so that they write the same.

use std::borrow::Cow;
use std::sync::Arc;

use penwright_kernels::{chunks_mut, each};

use super::ending::Ending;
use super::sampling::{Sampler, Sampling, Scratch};
use super::{Chat, ChatOptions, FinishReason, GenerateOptions, Message, Sample};
use crate::model::LanguageModel;
use crate::tokenizer::{DecodeStream, Tokenizer};
use crate::{Error, Result};

/// What is to be continued, and how; the same for all texts that continue it.
#[derive(Clone)]
pub struct Prompt {
    pub(super) tokenizer: Tokenizer,
    /// Its tokens, without end-of-text before them.
    pub(super) tokens: Vec<u32>,
    /// Those of them that the repetition penalty and the n-gram rule look at.
    pub(super) seen: Vec<u32>,
    pub(super) sampler: Sampler,
    /// The ending of a text of which nothing is written.
    pub(super) ending: Ending,
    /// Tokens that end a text.
    pub(super) ends: Vec<u32>,
    /// Tokens after which a text ends in any case.
    pub(super) most: usize,
    /// Whether white space at either end of a text is left out.
    pub(super) trims: bool,
}

impl Prompt {
    /// A text to go on from, exactly as it stands (see [`clean_prompt`](super::clean_prompt)).
    ///
    /// # Errors
    /// [`Error::Setting`] when an option cannot work.
    pub fn new(
        model: &Arc<dyn LanguageModel>,
        tokenizer: &Tokenizer,
        text: &str,
        options: &GenerateOptions,
    ) -> Result<Self> {
        options.check()?;
        Ok(Self::of(model, tokenizer, tokenizer.encode(text), text, options))
    }

    /// The same of tokens. The first may be end-of-text, which stands before every text and is not doubled.
    ///
    /// # Errors
    /// As [`Prompt::new`], and when a token is not one of the model and its tokenizer.
    pub fn of_tokens(
        model: &Arc<dyn LanguageModel>,
        tokenizer: &Tokenizer,
        tokens: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        options.check()?;
        let vocab = shared_vocab(model, tokenizer);
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::Text(format!("token {id} is not in the vocabulary; ids are below {vocab}")));
        }
        let tokens = tokens.strip_prefix(&[tokenizer.eot()]).unwrap_or(tokens);
        Ok(Self::of(model, tokenizer, tokens.to_vec(), &tokenizer.decode(tokens), options))
    }

    /// The reply that is due in a conversation, with the tokens that a [`Chat`](super::Chat) reads for it which has taken
    /// up the turns before ([`Chat::load`](super::Chat::load)); and the number that it gives the text ([`Writing::new`]).
    ///
    /// The texts are the same, too, until the reply outgrows a GPT-2's context: a session slides then, where a chat
    /// drops its oldest exchanges once more.
    ///
    /// # Errors
    /// As [`Chat::new`](super::Chat::new) and [`Chat::load`](super::Chat::load), and when the last turn is not the
    /// person's.
    pub fn of_chat(
        model: &Arc<dyn LanguageModel>,
        tokenizer: &Tokenizer,
        options: ChatOptions,
        messages: &[Message],
    ) -> Result<(Self, u64)> {
        Chat::due_reply(model, tokenizer, options, messages)
    }

    fn of(
        model: &Arc<dyn LanguageModel>,
        tokenizer: &Tokenizer,
        tokens: Vec<u32>,
        text: &str,
        options: &GenerateOptions,
    ) -> Self {
        let greedy = Sampling { temperature: 0.0, ..options.sampling.clone() };
        let sampling = if options.beams > 0 { &greedy } else { &options.sampling };
        Prompt {
            seen: tokens.clone(),
            tokens,
            sampler: Sampler::new(sampling, shared_vocab(model, tokenizer), tokenizer.suppressed()),
            ending: Ending::new(options.stop.clone().into(), options.length.counter(text)),
            ends: vec![tokenizer.eot()],
            most: options.length.most_tokens().min(options.most_tokens.unwrap_or(usize::MAX)),
            trims: false,
            tokenizer: tokenizer.clone(),
        }
    }

    /// Its tokens, without the end-of-text token before them.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// What a session is to read before the first token is chosen: end-of-text and the tokens.
    pub fn context(&self) -> Vec<u32> {
        [&[self.tokenizer.eot()], &self.tokens[..]].concat()
    }

    /// Tokens that a text has at most.
    pub fn most_tokens(&self) -> usize {
        self.most
    }
}

/// Number of ids that both the model and the tokenizer know.
pub fn shared_vocab(model: &Arc<dyn LanguageModel>, tokenizer: &Tokenizer) -> usize {
    model.vocab_size().min(tokenizer.vocab_size())
}

/// One text being written.
///
/// After a session has read [`Prompt::context`], its log-probabilities go to [`next`](Writing::next); the token that
/// comes back goes to the session, and so on until the text has [`finished`](Writing::finished).
pub struct Writing {
    prompt: Arc<Prompt>,
    /// The number of the text, from which its random numbers are.
    sample: u64,
    /// What the penalties look at: tokens of the prompt and those written.
    tokens: Vec<u32>,
    log_prob: f64,
    characters: DecodeStream,
    /// Characters of the tokens written, also beyond the text's end.
    decoded: usize,
    ending: Ending,
    reason: Option<FinishReason>,
    /// Characters handed out, white space that was left out included.
    shown: usize,
    /// White space that is shown once something follows it, and whether anything has been shown.
    space: String,
    begun: bool,
}

/// A token that was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Written {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability under the model itself.
    pub log_prob: f32,
    /// Where its text begins, in characters of what was written.
    pub start: usize,
}

impl Writing {
    /// Begins text number `sample`, from 0, of those that continue the prompt.
    pub fn new(prompt: &Arc<Prompt>, sample: u64) -> Self {
        Writing {
            sample,
            tokens: prompt.seen.clone(),
            log_prob: 0.0,
            characters: prompt.tokenizer.stream(),
            decoded: 0,
            ending: prompt.ending.clone(),
            reason: (prompt.most == 0).then_some(FinishReason::Length),
            shown: 0,
            space: String::new(),
            begun: false,
            prompt: prompt.clone(),
        }
    }

    /// Chooses the next token by the model's log-probabilities; `None` when the text ends without one more.
    pub fn next(&mut self, scratch: &mut Scratch, log_probs: &[f32]) -> Option<Written> {
        let n = self.written().len();
        let token = self.prompt.sampler.choose(scratch, log_probs, &self.tokens, self.sample, n as u64);
        let Some(id) = token.filter(|token| !self.prompt.ends.contains(token)) else {
            self.finish(FinishReason::Stop);
            return None;
        };
        let log_prob = log_probs.get(id as usize).copied().unwrap_or_default();
        let written = Written { id, log_prob, start: self.decoded };
        self.tokens.push(id);
        self.log_prob += f64::from(log_prob);
        let piece = self.characters.push(id);
        self.decoded += piece.chars().count();
        if self.ending.push(&piece) {
            self.reason = Some(FinishReason::Stop);
        } else if n + 1 == self.prompt.most {
            self.finish(FinishReason::Length);
        }
        Some(written)
    }

    fn finish(&mut self, reason: FinishReason) {
        let rest = std::mem::replace(&mut self.characters, self.prompt.tokenizer.stream()).finish();
        self.ending.push(&rest);
        self.ending.finish();
        self.reason = Some(reason);
    }

    /// Ends the text with what was handed out.
    pub fn cancel(&mut self) {
        if self.reason.is_none() {
            self.ending.cut();
            self.reason = Some(FinishReason::Cancelled);
        }
    }

    /// The text that is certain by now and has not been handed out.
    pub fn fresh(&mut self) -> Cow<'_, str> {
        let text = self.ending.fresh();
        self.shown += text.chars().count();
        if !self.prompt.trims {
            return Cow::Borrowed(text);
        }
        let mut shown = String::new();
        for c in text.chars() {
            if !c.is_whitespace() {
                shown.push_str(&std::mem::take(&mut self.space));
                shown.push(c);
                self.begun = true;
            } else if self.begun {
                self.space.push(c);
            }
        }
        Cow::Owned(shown)
    }

    /// Characters that were handed out, white space left out at the ends included: tokens whose
    /// [`start`](Written::start) is below belong to what was handed out.
    pub fn shown(&self) -> usize {
        self.shown
    }

    /// Why the text has ended, once it has.
    pub fn finished(&self) -> Option<FinishReason> {
        self.reason
    }

    /// The tokens written so far.
    pub fn written(&self) -> &[u32] {
        &self.tokens[self.prompt.seen.len()..]
    }

    /// Tokens of the prompt that the penalties look at, and those written.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The text with the white space at its ends.
    pub(super) fn untrimmed(&self) -> &str {
        self.ending.text()
    }

    /// The text as it is; whoever asks before its end has cancelled it.
    pub fn sample(mut self) -> Sample {
        self.cancel();
        let text = self.ending.text();
        Sample {
            text: if self.prompt.trims { text.trim() } else { text }.into(),
            tokens: self.written().len(),
            finish_reason: self.reason.unwrap_or(FinishReason::Cancelled),
            log_prob: self.log_prob,
        }
    }
}

/// A text beside the log-probabilities of what follows it.
pub type Due<'a> = (&'a mut Writing, &'a [f32]);

/// [`Writing::next`] for each of several texts, on all threads. `scratches` is the memory for it, empty at first.
pub fn next_of_each(texts: &mut [Due<'_>], scratches: &mut Vec<Scratch>) -> Vec<Option<Written>> {
    let mut written = vec![None; texts.len()];
    let threads = rayon::current_num_threads().min(texts.len()).max(1);
    scratches.resize_with(threads.max(scratches.len()), Scratch::default);
    let part = texts.len().div_ceil(threads).max(1);
    let parts = (chunks_mut(texts, part), chunks_mut(&mut written, part), chunks_mut(scratches, 1));
    each(parts, |_, (texts, written, scratch)| {
        for ((text, log_probs), written) in texts.iter_mut().zip(written) {
            *written = text.next(&mut scratch[0], log_probs);
        }
    });
    written
}
