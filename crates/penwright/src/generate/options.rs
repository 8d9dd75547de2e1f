//! What to write and how long.

use unicode_normalization::UnicodeNormalization;

use super::units::{Counter, Unit};
use super::{Draft, Sampling};
use crate::tokenizer::Level;
use crate::{Error, Result};

/// Tokens to draft at most: with the one before them they are one pass over the weights.
pub(super) const DRAFT_TOKENS: usize = 11;

/// How long a text may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many tokens.
    Tokens(usize),
    /// So many words, as Unicode's UAX 29 divides them; ends with the last one's last letter.
    Words(usize),
    /// So many sentences (UAX 29), the last one's closing quotes included. A line's end inside a paragraph is a
    /// space; no sentence ends before a small letter or after a title such as `Mr.`.
    Sentences(usize),
    /// So many paragraphs. A paragraph ends at an empty line; in a text (prompt included) that has none so far and
    /// whose longest line has more than 100 characters, at the end of its line.
    Paragraphs(usize),
}

impl Length {
    /// A sensible number of tokens where nobody asked: 500 characters, or 200 larger pieces.
    pub fn default_for(level: Level) -> Self {
        Length::Tokens(if level == Level::Char { 500 } else { 200 })
    }

    /// Tokens after which a text ends in any case, with [`FinishReason::Length`](super::FinishReason::Length), for
    /// models that end no word or sentence: 50 a word, 2000 a sentence, 10 000 a paragraph.
    pub fn most_tokens(self) -> usize {
        match self {
            Length::Tokens(n) => n,
            Length::Words(n) => n.saturating_mul(50),
            Length::Sentences(n) => n.saturating_mul(2000),
            Length::Paragraphs(n) => n.saturating_mul(10_000),
        }
    }

    pub(super) fn counter(self, prompt: &str) -> Option<Counter> {
        match self {
            Length::Tokens(_) => None,
            Length::Words(n) => Some(Counter::new(Unit::Word, n, prompt)),
            Length::Sentences(n) => Some(Counter::new(Unit::Sentence, n, prompt)),
            Length::Paragraphs(n) => Some(Counter::new(Unit::Paragraph, n, prompt)),
        }
    }
}

/// What [`generate`](super::generate) is to write.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// How long.
    pub length: Length,
    /// Tokens after which a text ends in any case, also amid its words, sentences or paragraphs.
    pub most_tokens: Option<usize>,
    /// How many texts, written side by side. Of a beam search: how many of the best.
    pub samples: usize,
    /// The number of the first text; a text's random numbers depend on the seed and its number alone.
    pub first_sample: u64,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Beam search over so many texts, instead of sampling; 1 takes the likeliest token always, 0 samples. Of
    /// [`GenerateOptions::sampling`] only the repetition penalty and the n-gram rule then matter.
    pub beams: usize,
    /// Strings before which a text ends. The prompt is not searched.
    pub stop: Vec<String>,
    /// Where the tokens come from that the model reads ahead; without influence on the text.
    pub draft: Draft,
    /// Tokens to draft at most.
    pub draft_tokens: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            length: Length::Tokens(200),
            most_tokens: None,
            samples: 1,
            first_sample: 0,
            sampling: Sampling::default(),
            beams: 0,
            stop: Vec::new(),
            draft: Draft::Off,
            draft_tokens: DRAFT_TOKENS,
        }
    }
}

impl GenerateOptions {
    /// # Errors
    /// [`Error::Setting`] with the flag's name when a value cannot work.
    pub fn check(&self) -> Result<()> {
        self.sampling.check()?;
        let units = match self.length {
            Length::Tokens(_) => ("tokens", 1), // zero tokens only read the prompt
            Length::Words(n) => ("words", n),
            Length::Sentences(n) => ("sentences", n),
            Length::Paragraphs(n) => ("paragraphs", n),
        };
        for (name, value) in [units, ("samples", self.samples)] {
            if value == 0 {
                return Err(Error::setting(name, "must be at least 1"));
            }
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::setting("stop", "an empty string would end the text before it begins"));
        }
        if self.beams > 1 && !self.draft.is_off() {
            return Err(Error::setting("draft", "beams are not drafted; leave out --draft or --beams"));
        }
        if self.beams > 0 && self.samples > self.beams {
            let problem = format!("{} texts cannot come out of {} beams; use more --beams", self.samples, self.beams);
            return Err(Error::setting("samples", problem));
        }
        Ok(())
    }
}

/// A prompt in the form of the texts that models learn from: Unicode NFC, lines ending in `\n`.
pub fn clean_prompt(text: &str) -> String {
    text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n").nfc().collect()
}
