//! Speculative decoding: a cheap draft proposes the next tokens, the model reads them in one pass, and the text keeps
//! those that the model chooses itself.
//!
//! Leviathan et al. 2023 and Chen et al. 2023 accept a drafted token with probability `min(1, p / q)`, which keeps the
//! distribution of the text. Here a draft is certain of its token, and token `n` of a text is drawn by the model's own
//! probabilities and its own random number in any case; the draft is kept as far as it says the same. So the text itself
//! is the same with and without a draft, and no draft can change its quality.
//!
//! A draft comes from the text so far, what followed when it last said the same ("prompt lookup"), or from an n-gram
//! model. How often it is right is counted for each kind of guess (by the length of what was found, or the n-gram
//! model's own probability), also where a guess was not tried. A token is drafted while the probability that all up to
//! it are right exceeds what reading it costs, which the session says.

mod lookup;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use crate::model::{Context, Ngram, Session};
use crate::run::{Parts, Weights};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use lookup::Lookup;

/// Kinds of guesses whose success is counted apart.
const KINDS: usize = 16;
/// The share of the newest guess in how often its kind is right.
const NEWEST: f32 = 1.0 / 16.0;

/// Where the tokens come from that a model reads ahead. A text is the same with any draft.
#[derive(Clone, Default)]
pub enum Draft {
    /// No draft.
    #[default]
    Off,
    /// What followed the longest end of the text, prompt included, that it had before.
    Prompt,
    /// What an n-gram model with the same tokenizer finds likeliest.
    Ngram(Arc<Ngram>),
}

impl Draft {
    /// The n-gram model in a run directory.
    ///
    /// # Errors
    /// When it cannot be read, is of another family, or its tokens are not those of `tokenizer`.
    pub fn open(path: &Path, tokenizer: &Tokenizer) -> Result<Draft> {
        let parts = Parts::read(path)?;
        let Weights::Ngram(model) = parts.weights else {
            let problem = format!("{} is no n-gram model; train one by train --model ngram", path.display());
            return Err(Error::setting("draft", problem));
        };
        if !same_tokens(&parts.tokenizer, tokenizer) {
            let problem =
                "has other tokens than the model; train the n-gram model on the same text at the same --level";
            return Err(Error::setting("draft", format!("{} {problem}", path.display())));
        }
        Ok(Draft::Ngram(model))
    }

    /// Whether there is none.
    pub fn is_off(&self) -> bool {
        matches!(self, Draft::Off)
    }
}

fn same_tokens(a: &Tokenizer, b: &Tokenizer) -> bool {
    let same = |id: u32| a.decode_bytes(&[id]) == b.decode_bytes(&[id]) && a.piece(id) == b.piece(id);
    a.vocab_size() == b.vocab_size() && a.eot() == b.eot() && (0..a.vocab_size() as u32).all(same)
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Draft::Off => f.write_str("Off"),
            Draft::Prompt => f.write_str("Prompt"),
            Draft::Ngram(model) => f.debug_tuple("Ngram").field(model.config()).finish(),
        }
    }
}

/// The same model, not an equal one.
impl PartialEq for Draft {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Draft::Off, Draft::Off) | (Draft::Prompt, Draft::Prompt) => true,
            (Draft::Ngram(a), Draft::Ngram(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A guess at the next token and its kind.
type Guess = (u32, usize);

/// What guesses for one text.
enum Guesser<'a> {
    Lookup(Lookup),
    Ngram { model: &'a Ngram, read: usize, context: Context },
}

impl Guesser<'_> {
    /// Reads on in the text, then hands its guesses at what follows to `take` until that says no.
    fn guess(&mut self, text: &[u32], mut take: impl FnMut(Guess) -> bool) {
        match self {
            Guesser::Lookup(lookup) => {
                lookup.read(text);
                let Some((from, length)) = lookup.longest(text) else { return };
                // What is found may be the text's own end: then it goes on with the guesses themselves.
                let period = text.len() - from;
                let mut n = 0;
                while take((text[from + n % period], lookup::kind(length + n))) {
                    n += 1;
                }
            }
            Guesser::Ngram { model, read, context } => {
                for &token in text.get(*read..).unwrap_or_default() {
                    *context = model.after(context, token);
                }
                *read = text.len();
                let mut ahead = *context;
                loop {
                    let (token, p) = model.likeliest(&ahead);
                    if !take((token, (p * KINDS as f32) as usize)) {
                        break;
                    }
                    ahead = model.after(&ahead, token);
                }
            }
        }
    }
}

/// One text's guesses.
struct Guesses<'a> {
    guesser: Guesser<'a>,
    /// How often each kind was right.
    right: [f32; KINDS],
    /// What may come next: the draft, and a guess more to be counted.
    next: Vec<Guess>,
    draft: Vec<u32>,
}

/// The drafts of texts that are written side by side.
pub(super) struct Drafter<'a> {
    texts: Vec<Guesses<'a>>,
    /// Ids that may be drafted.
    vocab: u32,
    most: usize,
    cost: f32,
    /// Tokens drafted, and those of them that were right.
    pub(super) drafted: usize,
    pub(super) accepted: usize,
}

impl<'a> Drafter<'a> {
    /// `texts` texts of tokens below `vocab`, begun by `eot`; none when there is no draft, or none that the session
    /// could read ahead.
    pub(super) fn new(
        draft: &'a Draft,
        most: usize,
        session: &dyn Session,
        texts: usize,
        vocab: usize,
        eot: u32,
    ) -> Option<Self> {
        let cost = session.cost_ahead();
        let begin = || match draft {
            Draft::Off => None,
            Draft::Prompt => Some((Guesser::Lookup(Lookup::default()), [0.5; KINDS])),
            Draft::Ngram(model) => {
                let context = model.after(&Context::default(), eot);
                let right = std::array::from_fn(|kind| (kind as f32 + 0.5) / KINDS as f32);
                Some((Guesser::Ngram { model, read: 0, context }, right))
            }
        };
        let new = || begin().map(|(guesser, right)| Guesses { guesser, right, next: Vec::new(), draft: Vec::new() });
        let texts = (0..texts).map(|_| new()).collect::<Option<Vec<_>>>().filter(|_| cost < 1.0 && most > 0)?;
        Some(Drafter { texts, vocab: vocab as u32, most, cost, drafted: 0, accepted: 0 })
    }

    /// Drafts what follows `text`, at most `room` tokens, when `beside` texts are written at once.
    pub(super) fn draft(&mut self, i: usize, text: &[u32], room: usize, beside: usize) {
        let (most, vocab) = (self.most.min(room), self.vocab);
        // A pass over n texts costs 1 + (n - 1) cost, and a token of each is worth an n-th of it.
        let beside = beside as f32;
        let cost = self.cost * beside / (1.0 + (beside - 1.0) * self.cost);
        let Guesses { guesser, right, next, draft } = &mut self.texts[i];
        next.clear();
        draft.clear();
        let mut probability = 1.0;
        guesser.guess(text, |(token, kind)| {
            let kind = kind.min(KINDS - 1);
            next.push((token, kind));
            probability *= right[kind];
            let worth = draft.len() < most && probability > cost && token < vocab;
            if worth {
                draft.push(token);
            }
            worth
        });
        self.drafted += draft.len();
    }

    /// What [`Drafter::draft`] drafted last for a text.
    pub(super) fn drafted(&self, i: usize) -> &[u32] {
        &self.texts[i].draft
    }

    /// Counts whether guess `n` for a text was right; whether it was, and drafted.
    pub(super) fn learn(&mut self, i: usize, n: usize, token: Option<u32>) -> bool {
        let Guesses { right, next, draft, .. } = &mut self.texts[i];
        let Some(&(guess, kind)) = next.get(n) else { return false };
        let hit = Some(guess) == token;
        right[kind] += (f32::from(hit) - right[kind]) * NEWEST;
        let accepted = hit && n < draft.len();
        self.accepted += usize::from(accepted);
        accepted
    }
}
