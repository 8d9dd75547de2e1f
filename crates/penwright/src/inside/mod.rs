//! Looking inside the models: what an LSTM's gates and cells do as a text runs through them, and which of its cells
//! follow something in the text; where a GPT-2's heads look, and what each of its blocks would say next; how surprising
//! any model finds each token.
//!
//! These are reference computations, written as the equations stand and against the weights by their names in the
//! file; the tests compare them with the models' own passes. They are made for texts that a person looks at, and
//! refuse longer ones in a sentence.
//!
//! The requests and answers are what the server's `POST /api/inside/lstm` and `POST /api/inside/gpt2` read and write.

mod follow;
mod gpt2;
mod lstm;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use penwright_kernels::{Init, Matrix, Output, product_into};
use serde::{Deserialize, Serialize};

pub use follow::{Follower, Follows, Property};
pub use gpt2::{Gpt2Inside, Gpt2Request, Head, LayerAttention, Lens, gpt2};
pub use lstm::{LstmInside, LstmRequest, lstm};

use crate::model::{LanguageModel, Params, keep_likeliest};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Tokens of a text that an LSTM is watched reading, and that any model's surprise is told of.
pub const MAX_TOKENS: usize = 8192;
/// Numbers of an answer, at most.
pub const MAX_NUMBERS: usize = 1 << 20;
/// Likeliest tokens that are told, at most.
pub const MAX_TOP: usize = 50;

/// One token of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The part of the text that it covers: joined, the tokens are the text. Empty where a token ends within a
    /// character.
    pub text: String,
    /// Natural logarithm of its probability given all before it; `None` of the end-of-text token that begins a text.
    pub log_prob: Option<f32>,
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Its id.
    pub id: u32,
    /// The token for people, as [`Tokenizer::piece`] has it.
    pub text: String,
    /// Its probability, in 0 … 1.
    pub prob: f32,
}

/// A token, and what might have stood in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Surprise {
    /// The token; its surprise is −`log_prob`, in nats.
    #[serde(flatten)]
    pub token: Token,
    /// The likeliest tokens at its place, likeliest first.
    pub alternatives: Vec<Choice>,
}

/// How surprising a model finds each token of a text, and the `top` likeliest tokens at each place. The text begins
/// after the end-of-text token.
///
/// # Errors
/// When the text or `top` is too large, or memory cannot be had.
pub fn surprise(
    model: &Arc<dyn LanguageModel>,
    tokenizer: &Tokenizer,
    text: &str,
    top: usize,
) -> Result<Vec<Surprise>> {
    check_top(top)?;
    let read = Reading::new(tokenizer, text, MAX_TOKENS, false)?;
    let mut session = model.clone().session(1)?;
    let mut found = Vec::with_capacity(read.texts.len());
    for (i, text) in read.texts.iter().enumerate() {
        session.feed(0, &[read.ids[i]])?;
        let (id, row) = (read.ids[i + 1], session.log_probs(0));
        let log_prob = row.get(id as usize).copied();
        let alternatives = choices(tokenizer, row, top);
        found.push(Surprise { token: Token { id, text: text.clone(), log_prob }, alternatives });
    }
    Ok(found)
}

/// A text as a model reads it.
struct Reading {
    /// End-of-text, then the text's tokens, `[1 + n]`.
    ids: Vec<u32>,
    /// What each token of the text covers, `[n]`.
    texts: Vec<String>,
    /// Where each ends, in bytes, `[n]`.
    ends: Vec<usize>,
}

impl Reading {
    /// At most `most` tokens; of a longer text the `beginning`, or none.
    fn new(tokenizer: &Tokenizer, text: &str, most: usize, beginning: bool) -> Result<Self> {
        let mut ids = vec![tokenizer.eot()];
        ids.extend(tokenizer.encode(text));
        let n = ids.len() - 1;
        if n == 0 {
            return Err(Error::Text("the text is empty; give a few words to look at".into()));
        }
        if n > most && (!beginning || most == 0) {
            let problem = format!("the text has {n} tokens, but at most {most} can be looked at");
            return Err(Error::Text(format!("{problem}; shorten it")));
        }
        // The spans of all, since the last one's reaches to the end of the text.
        let mut spans = tokenizer.spans(text, &ids[1..]);
        ids.truncate(most.saturating_add(1));
        spans.truncate(most);
        let texts = spans.iter().map(|span| text.get(span.clone()).unwrap_or("").to_string()).collect();
        Ok(Reading { ids, texts, ends: spans.into_iter().map(|span| span.end).collect() })
    }

    /// The tokens of the text, with their log-probabilities, `[n]`.
    fn tokens(&self, log_probs: &[f32]) -> Vec<Token> {
        let parts = self.ids[1..].iter().zip(&self.texts).zip(log_probs);
        parts.map(|((&id, text), &log_prob)| Token { id, text: text.clone(), log_prob: Some(log_prob) }).collect()
    }
}

fn check_top(top: usize) -> Result<()> {
    match top > MAX_TOP {
        true => Err(Error::Unsupported(format!("top is {top}; at most {MAX_TOP} likeliest tokens are told"))),
        false => Ok(()),
    }
}

fn check_numbers(count: usize, remedy: &str) -> Result<()> {
    match count > MAX_NUMBERS {
        true => {
            Err(Error::Unsupported(format!("the answer would have {count} numbers, more than {MAX_NUMBERS}; {remedy}")))
        }
        false => Ok(()),
    }
}

/// The numbers that are asked for, each below `count`; all where none are named.
fn chosen(asked: Option<&[usize]>, count: usize, what: &str) -> Result<Vec<usize>> {
    let Some(asked) = asked else { return Ok((0..count).collect()) };
    match asked.iter().find(|&&i| i >= count) {
        Some(i) => {
            Err(Error::Unsupported(format!("there is no {what} {i}: the model's are 0 to {}", count.saturating_sub(1))))
        }
        None => Ok(asked.to_vec()),
    }
}

/// The `top` likeliest tokens by log-probabilities `[V]`, likeliest first, the lower id first of equals.
fn choices(tokenizer: &Tokenizer, log_probs: &[f32], top: usize) -> Vec<Choice> {
    if top == 0 {
        return Vec::new();
    }
    let mut tokens: Vec<(u32, f32)> = (0..).zip(log_probs.iter().copied()).collect();
    keep_likeliest(&mut tokens, top);
    let choice = |(id, log_prob): (u32, f32)| Choice { id, text: tokenizer.piece(id), prob: log_prob.exp() };
    tokens.into_iter().map(choice).collect()
}

/// A tensor of the weights by its name.
fn weight<'a>(params: &'a Params, name: &str) -> Result<&'a [f32]> {
    let missing = || Error::Unsupported(format!("the model's weights have no {name}"));
    params.find(name).map(|tensor| &params.data[tensor.range.clone()]).ok_or_else(missing)
}

/// `x W + b`: x `[rows, inputs]`, w `[inputs, outputs]`, b `[outputs]`, to `[rows, outputs]`.
fn linear(x: &[f32], rows: usize, w: Matrix<'_>, (inputs, outputs): (usize, usize), bias: Option<&[f32]>) -> Vec<f32> {
    let mut y = vec![0.0; rows * outputs];
    let to: Output<'_, f32> = Output::sums(&mut y, bias.map_or(Init::Zero, Init::Bias));
    product_into::<f32, _, _>(to, Matrix::new(x, rows, inputs), w);
    y
}
