//! Writing together: the model offers, the person picks or types.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::beam::whole_characters;
use super::{OnText, Sampler, Sampling, Scratch, shared_vocab};
use crate::model::{LanguageModel, Session, keep_likeliest};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Tokens of an offer at most.
const LONGEST: usize = 24;

/// A continuation that the model offers: the rest of a word, or the next word with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its text.
    pub text: String,
    /// How likely the model finds it; offers of one text by different tokens are added up.
    pub probability: f64,
    /// The stream of the session that has read it.
    stream: usize,
    tokens: Vec<u32>,
}

/// A text on which a person and a model write in turn.
///
/// [`offers`](Interactive::offers) are the likeliest next tokens, each continued by the likeliest token until its word
/// ends, with their probabilities. [`take`](Interactive::take), [`type_text`](Interactive::type_text) and
/// [`run`](Interactive::run) each are one step, that [`back`](Interactive::back) takes back.
pub struct Interactive<'a> {
    tokenizer: &'a Tokenizer,
    /// Stream 0 has read the text; the others are for the offers.
    session: Box<dyn Session>,
    sampler: Sampler,
    scratch: Scratch,
    /// The text's tokens now, and before each step.
    tokens: Vec<u32>,
    past: Vec<Vec<u32>>,
    offers: Option<Vec<Offer>>,
    runs: u64,
}

impl<'a> Interactive<'a> {
    /// Begins with `prompt`; `count` offers at a time, at most.
    ///
    /// # Errors
    /// When a setting cannot work, memory is short, or the model refuses the prompt.
    pub fn new(
        model: &Arc<dyn LanguageModel>,
        tokenizer: &'a Tokenizer,
        prompt: &str,
        count: usize,
        sampling: &Sampling,
    ) -> Result<Self> {
        sampling.check()?;
        let vocab = shared_vocab(model, tokenizer);
        let mut this = Interactive {
            tokenizer,
            session: model.clone().session(1 + count)?,
            sampler: Sampler::new(sampling, vocab, tokenizer.suppressed()),
            scratch: Scratch::default(),
            tokens: Vec::new(),
            past: Vec::new(),
            offers: None,
            runs: 0,
        };
        this.begin(tokenizer.encode(prompt))?;
        Ok(this)
    }

    /// The whole text, prompt included.
    pub fn text(&self) -> String {
        whole_characters(&self.tokenizer.decode_bytes(&self.tokens))
    }

    /// Number of steps that can be taken back.
    pub fn steps(&self) -> usize {
        self.past.len()
    }

    /// Reads a text from its beginning.
    fn begin(&mut self, tokens: Vec<u32>) -> Result<()> {
        self.session.reset(0);
        self.session.feed(0, &[&[self.tokenizer.eot()], &tokens[..]].concat())?;
        (self.tokens, self.offers) = (tokens, None);
        Ok(())
    }

    /// The likeliest continuations, likeliest first; none when only the end of the text can follow.
    ///
    /// # Errors
    /// When the model fails.
    pub fn offers(&mut self) -> Result<&[Offer]> {
        let offers = match self.offers.take() {
            Some(offers) => offers,
            None => self.find_offers()?,
        };
        Ok(self.offers.insert(offers))
    }

    /// The likeliest tokens that may follow, best first, without end-of-text.
    fn likeliest(&mut self, stream: usize, written: &[u32], count: usize) -> Vec<(u32, f32)> {
        let history = [&self.tokens[..], written].concat();
        let (eot, log_probs) = (self.tokenizer.eot(), self.session.log_probs(stream));
        let next = self.sampler.penalised(&mut self.scratch, log_probs, &history, written.len());
        let mut next: Vec<_> = next.filter(|&(id, _)| id != eot).collect();
        keep_likeliest(&mut next, count);
        next.into_iter().map(|(id, _)| (id, log_probs[id as usize])).collect()
    }

    fn find_offers(&mut self) -> Result<Vec<Offer>> {
        let first = self.likeliest(0, &[], self.session.streams() - 1);
        let mut growing: Vec<(Offer, f64)> = Vec::new();
        for (stream, (id, log_prob)) in (1..).zip(first) {
            self.session.copy(0, stream);
            let offer = Offer { text: String::new(), probability: 0.0, stream, tokens: vec![id] };
            growing.push((offer, f64::from(log_prob)));
        }
        let mut done = Vec::new();
        while !growing.is_empty() {
            let streams: Vec<usize> = growing.iter().map(|(offer, _)| offer.stream).collect();
            let tokens: Vec<u32> = growing.iter().filter_map(|(offer, _)| offer.tokens.last().copied()).collect();
            self.session.step(&streams, &tokens)?;
            for (mut offer, log_prob) in std::mem::take(&mut growing) {
                let bytes = self.tokenizer.decode_bytes(&offer.tokens);
                let next = self.likeliest(offer.stream, &offer.tokens, 1).pop();
                match next.filter(|&(id, _)| offer.tokens.len() < LONGEST && !self.is_whole(&bytes, &offer.tokens, id))
                {
                    Some((id, log)) => {
                        offer.tokens.push(id);
                        growing.push((offer, log_prob + f64::from(log)));
                    }
                    None => {
                        offer.text = whole_characters(&bytes);
                        offer.probability = log_prob.exp();
                        done.push(offer);
                    }
                }
            }
        }
        Ok(merged(done))
    }

    /// Whether an offer is complete: it holds a letter or digit, no open character, and `next` begins with a space.
    fn is_whole(&self, bytes: &[u8], tokens: &[u32], next: u32) -> bool {
        let Ok(text) = str::from_utf8(bytes) else { return false };
        let longer = self.tokenizer.decode_bytes(&[tokens, &[next]].concat());
        let after = longer.get(bytes.len()..).map(whole_characters).unwrap_or_default();
        text.contains(char::is_alphanumeric) && after.starts_with(char::is_whitespace)
    }

    /// Takes the offer of this index.
    ///
    /// # Errors
    /// When there is no such offer.
    pub fn take(&mut self, index: usize) -> Result<()> {
        let offers = self.offers()?;
        let count = offers.len();
        let Some(offer) = offers.get(index).cloned() else {
            return Err(Error::Text(format!("there is no offer {}; there are {count}", index + 1)));
        };
        self.session.copy(offer.stream, 0);
        self.past.push(self.tokens.clone());
        self.tokens.extend(offer.tokens);
        self.offers = None;
        Ok(())
    }

    /// Adds a text of one's own. The whole is divided into tokens anew where that makes a difference, so that a word
    /// begun by the model and ended by hand has the tokens it has in any text.
    ///
    /// # Errors
    /// When the model fails.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        let tokens = self.tokenizer.encode(&(self.text() + text));
        let before = self.tokens.clone();
        match tokens.strip_prefix(&self.tokens[..]) {
            Some(new) => {
                self.session.feed(0, new)?;
                (self.tokens, self.offers) = (tokens, None);
            }
            None => self.begin(tokens)?,
        }
        self.past.push(before);
        Ok(())
    }

    /// Lets the model write `tokens` tokens, or until it ends the text or `on_text` (sample 0) asks to stop. The last
    /// character is completed. Each run draws other random numbers, the same for the same steps.
    ///
    /// # Errors
    /// When the model fails.
    pub fn run(&mut self, tokens: usize, on_text: OnText<'_>) -> Result<()> {
        self.past.push(self.tokens.clone());
        self.offers = None;
        self.runs += 1;
        let mut characters = self.tokenizer.stream();
        let mut open = false;
        for n in 0..tokens.saturating_add(LONGEST) {
            if n >= tokens && !open {
                break;
            }
            let log_probs = self.session.log_probs(0);
            let token = self.sampler.choose(&mut self.scratch, log_probs, &self.tokens, self.runs, n as u64);
            let Some(token) = token.filter(|&token| token != self.tokenizer.eot()) else { break };
            self.session.step(&[0], &[token])?;
            self.tokens.push(token);
            let piece = characters.push(token);
            open = piece.is_empty();
            if on_text(0, &piece) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    /// Takes back the last step; false when there is none.
    ///
    /// # Errors
    /// When the model fails.
    pub fn back(&mut self) -> Result<bool> {
        match self.past.pop() {
            Some(tokens) => self.begin(tokens).map(|()| true),
            None => Ok(false),
        }
    }
}

/// One offer for each text, likeliest first.
fn merged(mut offers: Vec<Offer>) -> Vec<Offer> {
    let likelier = |a: &Offer, b: &Offer| b.probability.total_cmp(&a.probability);
    offers.sort_by(likelier);
    let mut by_text: BTreeMap<String, Offer> = BTreeMap::new();
    for offer in offers.into_iter().filter(|offer| !offer.text.is_empty()) {
        match by_text.get_mut(&offer.text) {
            // The tokens that are taken are the likeliest of that text.
            Some(first) => first.probability += offer.probability,
            None => drop(by_text.insert(offer.text.clone(), offer)),
        }
    }
    let mut offers: Vec<Offer> = by_text.into_values().collect();
    offers.sort_by(likelier);
    offers
}
