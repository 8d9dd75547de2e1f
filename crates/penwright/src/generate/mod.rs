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

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::Result;
pub use crate::model::DecodePrecision as Precision;
use crate::model::{LanguageModel, Session};
use crate::tokenizer::{DecodeStream, Tokenizer};
use draft::Drafter;
use ending::Ending;
use sampling::Sampler;

pub use chat::{
    Chat, ChatFormat, ChatOptions, Markers, Message, Reply, Role, chat_template, read_history, write_history,
};
pub use draft::Draft;
pub use interactive::{Interactive, Offer};
pub use options::{GenerateOptions, Length, clean_prompt};
pub use sampling::Sampling;
pub use summarize::{Summary, SummaryOptions, summarize};

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
    options.check()?;
    let job = Job::new(model, tokenizer, prompt, options);
    let start = Instant::now();
    let streams = if options.beams > 1 { options.beams } else { options.samples };
    let mut session = model.clone().session(streams)?;
    session.feed(0, &job.context())?;
    (1..streams).for_each(|stream| session.copy(0, stream));
    let prefill_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut drafter = job.drafter(&*session);
    let samples = standing_by(|| match options.beams {
        0 | 1 => sample(&job, &mut *session, &mut drafter, on_text),
        _ => beam::search(&job, &mut *session, on_text),
    })?;
    let decode_seconds = start.elapsed().as_secs_f64();
    let (drafted, accepted) = drafter.map_or((0, 0), |drafter| (drafter.drafted, drafter.accepted));
    Ok(Generation { samples, prompt_tokens: job.prompt.len(), prefill_seconds, decode_seconds, drafted, accepted })
}

/// What does not change while a prompt is continued.
struct Job<'a> {
    tokenizer: &'a Tokenizer,
    options: &'a GenerateOptions,
    /// The prompt's tokens, without end-of-text.
    prompt: Vec<u32>,
    /// The ending of a text of which nothing is written.
    ending: Ending,
    /// Ids that both the model and the tokenizer know.
    vocab: usize,
    /// Tokens after which a text ends in any case.
    most: usize,
}

impl<'a> Job<'a> {
    fn new(
        model: &Arc<dyn LanguageModel>,
        tokenizer: &'a Tokenizer,
        prompt: &str,
        options: &'a GenerateOptions,
    ) -> Self {
        Job {
            tokenizer,
            options,
            prompt: tokenizer.encode(prompt),
            ending: Ending::new(options.stop.clone().into(), options.length.counter(prompt)),
            vocab: model.vocab_size().min(tokenizer.vocab_size()),
            most: options.length.most_tokens().min(options.most_tokens.unwrap_or(usize::MAX)),
        }
    }

    /// A text begins with the end-of-text token as its context.
    fn context(&self) -> Vec<u32> {
        [&[self.tokenizer.eot()], &self.prompt[..]].concat()
    }

    fn drafter(&self, session: &dyn Session) -> Option<Drafter<'a>> {
        let GenerateOptions { draft, draft_tokens, samples, .. } = self.options;
        Drafter::new(draft, *draft_tokens, session, *samples, self.vocab, self.tokenizer.eot())
    }

    fn sampler(&self) -> Sampler {
        let mut sampling = self.options.sampling.clone();
        if self.options.beams > 0 {
            sampling.temperature = 0.0;
        }
        Sampler::new(&sampling, self.vocab, self.tokenizer.suppressed())
    }
}

/// One text being written.
struct Writer<'a> {
    /// The prompt's tokens and those written.
    tokens: Vec<u32>,
    written: usize,
    log_prob: f64,
    characters: DecodeStream<'a>,
    ending: Ending,
    reason: Option<FinishReason>,
}

impl<'a> Writer<'a> {
    fn new(job: &Job<'a>) -> Self {
        Writer {
            tokens: job.prompt.clone(),
            written: 0,
            log_prob: 0.0,
            characters: job.tokenizer.stream(),
            ending: job.ending.clone(),
            reason: (job.most == 0).then_some(FinishReason::Length),
        }
    }

    /// Takes the token that was chosen; none, or end-of-text, ends the text.
    fn take(&mut self, token: Option<u32>, log_probs: &[f32], job: &Job<'a>) {
        let Some(token) = token.filter(|&token| token != job.tokenizer.eot()) else {
            return self.finish(FinishReason::Stop, job);
        };
        self.tokens.push(token);
        self.written += 1;
        self.log_prob += log_probs.get(token as usize).copied().map_or(0.0, f64::from);
        if self.ending.push(&self.characters.push(token)) {
            self.reason = Some(FinishReason::Stop);
        } else if self.written == job.most {
            self.finish(FinishReason::Length, job);
        }
    }

    fn finish(&mut self, reason: FinishReason, job: &Job<'a>) {
        let rest = std::mem::replace(&mut self.characters, job.tokenizer.stream()).finish();
        self.ending.push(&rest);
        self.ending.finish();
        self.reason = Some(reason);
    }

    fn sample(mut self) -> Sample {
        if self.reason.is_none() {
            self.ending.cut();
        }
        Sample {
            text: self.ending.text().into(),
            tokens: self.written,
            finish_reason: self.reason.unwrap_or(FinishReason::Cancelled),
            log_prob: self.log_prob,
        }
    }
}

/// Samples, or takes the likeliest token, in all streams until each has ended; those that have leave the batch.
fn sample(
    job: &Job<'_>,
    session: &mut dyn Session,
    drafter: &mut Option<Drafter<'_>>,
    on_text: OnText<'_>,
) -> Result<Vec<Sample>> {
    let (mut sampler, first) = (job.sampler(), job.options.first_sample);
    let mut writers: Vec<Writer<'_>> = (0..job.options.samples).map(|_| Writer::new(job)).collect();
    let mut active: Vec<usize> = (0..writers.len()).filter(|&i| writers[i].reason.is_none()).collect();
    let mut tokens = Vec::with_capacity(active.len());
    'writing: while !active.is_empty() {
        for &i in &active {
            let writer = &mut writers[i];
            // A token, and one more for each that the draft had right.
            for ahead in 0.. {
                let log_probs = session.log_probs_ahead(i, ahead);
                let (index, n) = (first.wrapping_add(i as u64), writer.written as u64);
                let token = sampler.choose(log_probs, &writer.tokens, index, n);
                writer.take(token, log_probs, job);
                if on_text(i, writer.ending.fresh()).is_break() {
                    break 'writing;
                }
                let right = drafter.as_mut().is_some_and(|drafter| drafter.learn(i, ahead, token));
                if !right || writer.reason.is_some() {
                    session.keep(i, ahead);
                    break;
                }
            }
        }
        active.retain(|&i| writers[i].reason.is_none());
        tokens.clear();
        tokens.extend(active.iter().filter_map(|&i| writers[i].tokens.last()));
        match drafter {
            Some(drafter) => step_ahead(job, session, drafter, &writers, &active, &tokens)?,
            None => session.step(&active, &tokens)?,
        }
    }
    Ok(writers.into_iter().map(Writer::sample).collect())
}

/// The last tokens of the active texts, each with a draft of what follows it.
fn step_ahead(
    job: &Job<'_>,
    session: &mut dyn Session,
    drafter: &mut Drafter<'_>,
    writers: &[Writer<'_>],
    active: &[usize],
    tokens: &[u32],
) -> Result<()> {
    for &i in active {
        let left = job.most.saturating_sub(writers[i].written + 1);
        drafter.draft(i, &writers[i].tokens, session.room_ahead(i).min(left), active.len());
    }
    let drafts: Vec<&[u32]> = active.iter().map(|&i| drafter.drafted(i)).collect();
    match drafts.iter().all(|draft| draft.is_empty()) {
        true => session.step(active, tokens),
        false => session.step_ahead(active, tokens, &drafts),
    }
}

#[cfg(test)]
mod tests;
