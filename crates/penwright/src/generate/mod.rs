//! Writing: from the model's probabilities to tokens to text.
//!
//! ```text
//! prompt ─► session ─► log-probabilities ─► sampler ─► token ─► characters ─► ending ─► text
//!              ▲                                         │   (never cut)   (stop strings, units)
//!              └─────────────────────────────────────────┘
//! ```

mod beam;
mod chat;
mod draft;
mod ending;
mod interactive;
mod options;
mod sampling;
mod summarize;
mod units;
mod writing;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::Result;
pub use crate::model::DecodePrecision as Precision;
use crate::model::{LanguageModel, Session};
use crate::tokenizer::Tokenizer;
use draft::Drafter;
use ending::Ending;
use sampling::Sampler;

pub use chat::{
    Chat, ChatFormat, ChatOptions, Markers, Message, Reply, Role, chat_template, read_history, write_history,
};
pub use draft::Draft;
pub use interactive::{Interactive, Offer};
pub use options::{GenerateOptions, Length, clean_prompt};
pub use sampling::{Sampling, Scratch};
pub use summarize::{Summary, SummaryOptions, summarize};
pub use writing::{Due, Prompt, Writing, Written, next_of_each, shared_vocab};

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// As many tokens as asked for.
    Length,
    /// The model ended the text, a stop string came, or the words, sentences or paragraphs asked for are complete.
    Stop,
    /// The callback asked to stop.
    Cancelled,
}

/// A written text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The text after the prompt.
    pub text: String,
    /// Number of tokens written, those of a stop string included, the end-of-text token not.
    pub tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Natural-log probability of the written tokens under the model itself (temperature 1, no filter).
    pub log_prob: f64,
}

/// What [`generate`] wrote, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The texts, in order; of a beam search, best first.
    pub samples: Vec<Sample>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Seconds to read the prompt.
    pub prefill_seconds: f64,
    /// Seconds to write all texts.
    pub decode_seconds: f64,
    /// Tokens that a draft proposed and the model read ahead.
    pub drafted: usize,
    /// Those of them that the model chose itself.
    pub accepted: usize,
}

impl Generation {
    /// Tokens read a second; the end-of-text token before the prompt counts.
    pub fn prefill_tokens_per_s(&self) -> f64 {
        (self.prompt_tokens + 1) as f64 / self.prefill_seconds.max(1e-9)
    }

    /// Tokens written a second, all texts together.
    pub fn decode_tokens_per_s(&self) -> f64 {
        self.samples.iter().map(|s| s.tokens).sum::<usize>() as f64 / self.decode_seconds.max(1e-9)
    }

    /// Whether the callback asked to stop.
    pub fn was_cancelled(&self) -> bool {
        self.samples.iter().any(|s| s.finish_reason == FinishReason::Cancelled)
    }
}

/// Receives the texts as they come: the number of the sample, from 0, and whole characters that belong to its text
/// for certain. Also called with an empty piece, at least once a token, so that it can always ask to stop.
pub type OnText<'a> = &'a mut dyn FnMut(usize, &str) -> ControlFlow<()>;

/// Calls `f` with the threads of the pool standing by, so that no step of a session has to wake them.
pub fn standing_by<R>(f: impl FnOnce() -> R) -> R {
    penwright_kernels::team(f)
}

/// Writes after `prompt`. All samples are one batch; each has the text it would have alone (with
/// [`GenerateOptions::first_sample`]), to the bit and for any number of threads.
///
/// # Errors
/// When an option cannot work, memory is short or the model refuses the prompt.
pub fn generate(
    model: &Arc<dyn LanguageModel>,
    tokenizer: &Tokenizer,
    prompt: &str,
    options: &GenerateOptions,
    on_text: OnText<'_>,
) -> Result<Generation> {
    let prompt = Arc::new(Prompt::new(model, tokenizer, prompt, options)?);
    let start = Instant::now();
    let streams = if options.beams > 1 { options.beams } else { options.samples };
    let mut session = model.clone().session(streams)?;
    session.feed(0, &prompt.context())?;
    (1..streams).for_each(|stream| session.copy(0, stream));
    let prefill_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let GenerateOptions { draft, draft_tokens, samples, .. } = options;
    let vocab = shared_vocab(model, tokenizer);
    let mut drafter = Drafter::new(draft, *draft_tokens, &*session, *samples, vocab, tokenizer.eot());
    let samples = standing_by(|| match options.beams {
        0 | 1 => sample(&prompt, options, &mut *session, &mut drafter, on_text),
        _ => beam::search(&prompt, options.samples, &mut *session, on_text),
    })?;
    let decode_seconds = start.elapsed().as_secs_f64();
    let (drafted, accepted) = drafter.map_or((0, 0), |drafter| (drafter.drafted, drafter.accepted));
    Ok(Generation { samples, prompt_tokens: prompt.tokens.len(), prefill_seconds, decode_seconds, drafted, accepted })
}

/// Samples, or takes the likeliest token, in all streams until each has ended; those that have leave the batch.
fn sample(
    prompt: &Arc<Prompt>,
    options: &GenerateOptions,
    session: &mut dyn Session,
    drafter: &mut Option<Drafter<'_>>,
    on_text: OnText<'_>,
) -> Result<Vec<Sample>> {
    let mut scratch = Scratch::default();
    let numbers = (0..options.samples as u64).map(|i| options.first_sample.wrapping_add(i));
    let mut texts: Vec<Writing> = numbers.map(|number| Writing::new(prompt, number)).collect();
    let mut active: Vec<usize> = (0..texts.len()).filter(|&i| texts[i].finished().is_none()).collect();
    let mut tokens = Vec::with_capacity(active.len());
    'writing: while !active.is_empty() {
        for &i in &active {
            let text = &mut texts[i];
            // A token, and one more for each that the draft had right.
            for ahead in 0.. {
                let token = text.next(&mut scratch, session.log_probs_ahead(i, ahead)).map(|token| token.id);
                if on_text(i, &text.fresh()).is_break() {
                    break 'writing;
                }
                let right = drafter.as_mut().is_some_and(|drafter| drafter.learn(i, ahead, token));
                if !right || text.finished().is_some() {
                    session.keep(i, ahead);
                    break;
                }
            }
        }
        active.retain(|&i| texts[i].finished().is_none());
        tokens.clear();
        tokens.extend(active.iter().filter_map(|&i| texts[i].written().last()));
        match drafter {
            Some(drafter) => step_ahead(session, drafter, &texts, prompt.most, &active, &tokens)?,
            None => session.step(&active, &tokens)?,
        }
    }
    Ok(texts.into_iter().map(Writing::sample).collect())
}

/// The last tokens of the active texts, each with a draft of what follows it.
fn step_ahead(
    session: &mut dyn Session,
    drafter: &mut Drafter<'_>,
    texts: &[Writing],
    most: usize,
    active: &[usize],
    tokens: &[u32],
) -> Result<()> {
    for &i in active {
        let left = most.saturating_sub(texts[i].written().len() + 1);
        drafter.draft(i, texts[i].tokens(), session.room_ahead(i).min(left), active.len());
    }
    let drafts: Vec<&[u32]> = active.iter().map(|&i| drafter.drafted(i)).collect();
    match drafts.iter().all(|draft| draft.is_empty()) {
        true => session.step(active, tokens),
        false => session.step_ahead(active, tokens, &drafts),
    }
}

#[cfg(test)]
mod tests;
