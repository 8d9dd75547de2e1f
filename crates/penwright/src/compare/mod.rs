//! Models side by side on one held-out text: quality, cost, speed, size and samples.
//!
//! ```text
//! contenders + text ─► compare ─► Comparison ─► JSON, table() for a terminal, html() for a page
//! ```

mod contender;
mod copied;
mod excerpt;
mod page;
mod variety;
mod verdict;

use std::f64::consts::LN_2;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use serde::Serialize;

pub use crate::page::{chart, table};
pub use contender::{Contender, CurvePoint, run_size};
pub use page::html;

use excerpt::{Excerpt, beginning};

use crate::generate::{GenerateOptions, Length, Sampling, generate};
use crate::model::{ModelKind, mean_score};
use crate::score::score_ranges;
use crate::tokenizer::Level;
use crate::train::token_stream;
use crate::{Error, Result};

/// Characters of the text that each model goes on from, unless a prompt is given.
const PROMPT: usize = 60;

/// The text that the models are compared on.
#[derive(Clone, Copy, Debug)]
pub struct HeldOut<'a> {
    /// What it is called, such as its path.
    pub name: &'a str,
    /// Its documents.
    pub documents: &'a [&'a str],
}

/// How much each model writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleLength {
    /// About as many characters, whatever the tokens are: samples of equal length are comparable.
    Chars(usize),
    /// As many tokens.
    Tokens(usize),
}

/// The settings of a comparison.
#[derive(Clone, Debug)]
pub struct Options {
    /// What every model goes on from; `None` for the beginning of a sentence of the held-out text.
    pub prompt: Option<String>,
    /// How much each model writes.
    pub sample: SampleLength,
    /// Divides the log-probabilities in writing.
    pub temperature: f32,
    /// Seed of the samples, the same for each model.
    pub seed: u64,
    /// Characters of the held-out text that are shown coloured by surprise; 0 for none.
    pub passage: usize,
    /// Tokens by which a GPT-2's window slides in scoring; `None` for its context, as in `eval`.
    pub stride: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        let sample = SampleLength::Chars(900);
        Options { prompt: None, sample, temperature: 0.8, seed: 0, passage: 1500, stride: None }
    }
}

/// What is being done, for progress on a screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress<'a> {
    /// The model's place among the contenders, from zero.
    pub index: usize,
    /// Number of contenders.
    pub of: usize,
    /// The model's name.
    pub name: &'a str,
    /// What it does.
    pub stage: Stage,
}

/// A part of the work on one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Scores the held-out text.
    Score,
    /// Writes.
    Write,
    /// Its sample is searched for in the training text.
    Search,
}

/// Models measured on one text. It serialises to the JSON of `compare`: `{"text","models":[…]}`.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Name of the held-out text.
    pub text: String,
    /// The models, in the order given.
    pub models: Vec<Entry>,
    /// Characters of the held-out text.
    #[serde(skip)]
    pub chars: usize,
    /// What every sample goes on from.
    #[serde(skip)]
    pub prompt: String,
    /// The words of the passage whose surprise is shown, each with the white space before it.
    #[serde(skip)]
    pub passage: Vec<String>,
    /// The same measures of the held-out text itself.
    #[serde(skip)]
    pub reference: Reference,
    /// The settings.
    #[serde(skip)]
    pub options: Options,
}

/// What a sample's measures are for a passage of the held-out text of the samples' length: what is natural.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference {
    /// Distinct pairs of neighbouring words, divided by all.
    pub distinct_2: Option<f64>,
    /// Share of four-word sequences that stood before.
    pub repetition: Option<f64>,
    /// Characters of its longest passage that stands in the training text.
    pub longest_copy_chars: Option<usize>,
}

/// One model's measurements. What is not known is `None`, `null` in JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name: the run directory.
    pub run: String,
    /// The family.
    pub model: ModelKind,
    /// Parameters.
    pub params: u64,
    /// −log₂ p(text) / characters: comparable between all models.
    pub bits_per_char: f64,
    /// exp of the mean loss of a token: comparable between models of one tokenizer.
    pub perplexity: f64,
    /// Seconds that training took.
    pub train_seconds: Option<f64>,
    /// Floating-point operations of training: those a token times the tokens.
    pub train_flops: Option<f64>,
    /// Tokens a second in writing the sample.
    pub decode_tokens_per_s: Option<f64>,
    /// Bytes of the files that the model is.
    pub size_bytes: u64,
    /// Distinct pairs of neighbouring words in the sample, divided by all.
    pub distinct_2: Option<f64>,
    /// Share of the sample's four-word sequences that stood in it before.
    pub repetition: Option<f64>,
    /// Characters of the longest passage of the sample that stands word for word in the training text.
    pub longest_copy_chars: Option<usize>,
    /// What it wrote after the prompt.
    pub sample: String,
    /// Characters a second in writing.
    #[serde(skip)]
    pub decode_chars_per_s: Option<f64>,
    /// Tokens of the sample as written.
    #[serde(skip)]
    pub sample_tokens: usize,
    /// Where in the sample the longest copied passage stands, in bytes.
    #[serde(skip)]
    pub copied: Option<Range<usize>>,
    /// −log₂ p of each word of [`Comparison::passage`], given all before it in its document.
    #[serde(skip)]
    pub surprise: Vec<f64>,
    /// Unit of its tokens.
    #[serde(skip)]
    pub level: Level,
    /// Validation over the course of training.
    #[serde(skip)]
    pub curve: Vec<CurvePoint>,
    /// Optimizer steps and tokens of training.
    #[serde(skip)]
    pub trained: Option<(u64, u64)>,
}

/// Measures each contender on the text. All is repeatable but the speed of writing.
///
/// # Errors
/// When there is no contender or no text, a setting cannot work, or a model fails.
pub fn compare(
    contenders: &[Contender],
    text: HeldOut<'_>,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Comparison> {
    let chars: usize = text.documents.iter().map(|d| d.chars().count()).sum();
    if contenders.is_empty() {
        return Err(Error::Unsupported("there is nothing to compare; name one or more runs".into()));
    }
    if chars == 0 {
        return Err(Error::Text(format!("{} is empty; give a text that the models have not seen", text.name)));
    }
    let excerpt = Excerpt::of(text.documents, options.passage);
    let whole = excerpt.with_lead();
    let mut comparison = Comparison {
        text: text.name.to_string(),
        models: Vec::new(),
        chars,
        prompt: options.prompt.clone().unwrap_or_else(|| excerpt.opening(PROMPT).to_string()),
        passage: excerpt.words().into_iter().filter_map(|word| whole.get(word).map(str::to_string)).collect(),
        reference: Reference::default(),
        options: options.clone(),
    };
    for (index, contender) in contenders.iter().enumerate() {
        let mut report = |stage| progress(Progress { index, of: contenders.len(), name: &contender.name, stage });
        let entry = measure(contender, text.documents, &excerpt, &comparison, &mut report)?;
        comparison.models.push(entry);
    }
    comparison.reference = reference(&excerpt, &comparison.models, contenders);
    Ok(comparison)
}

fn reference(excerpt: &Excerpt<'_>, models: &[Entry], contenders: &[Contender]) -> Reference {
    let chars = models.iter().map(|m| m.sample.chars().count()).max().unwrap_or(0);
    let natural = excerpt.opening(chars);
    let training = contenders.iter().map(|c| &c.training).find(|t| !t.is_empty());
    Reference {
        distinct_2: variety::distinct(natural, 2),
        repetition: variety::repeated(natural, 4),
        longest_copy_chars: training
            .and_then(|texts| longest_copy(natural, texts))
            .and_then(|range| Some(natural.get(range)?.chars().count())),
    }
}

/// −log₂ p of each word of the passage, given all before it in its document.
fn surprise(contender: &Contender, excerpt: &Excerpt<'_>) -> Result<Vec<f64>> {
    let words = excerpt.words();
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<Range<usize>> = std::iter::once(0..excerpt.start()).chain(words).collect();
    let scored = score_ranges(&*contender.model, &contender.tokenizer, excerpt.with_lead(), &parts, None)?;
    Ok(scored.iter().skip(1).map(|word| word.bits()).collect())
}

fn measure(
    contender: &Contender,
    documents: &[&str],
    excerpt: &Excerpt<'_>,
    comparison: &Comparison,
    report: &mut dyn FnMut(Stage),
) -> Result<Entry> {
    let (model, tokenizer, options) = (&contender.model, &contender.tokenizer, &comparison.options);
    report(Stage::Score);
    let tokens = token_stream(tokenizer, documents);
    let scored = tokens.len().saturating_sub(1) as f64;
    let (nats, _) = mean_score(&**model, &tokens, options.stride)?;
    let surprise = surprise(contender, excerpt)?;
    report(Stage::Write);
    let chars_per_token = comparison.chars as f64 / scored.max(1.0);
    let written = write(contender, &comparison.prompt, chars_per_token, options)?;
    report(Stage::Search);
    let copied = longest_copy(&written.text, &contender.training);
    let history = contender.history();
    Ok(Entry {
        run: contender.name.clone(),
        model: model.kind(),
        params: model.num_params(),
        bits_per_char: nats * scored / LN_2 / comparison.chars as f64,
        perplexity: nats.exp(),
        train_seconds: history.seconds,
        train_flops: history.flops,
        decode_tokens_per_s: written.tokens_per_s,
        size_bytes: contender.size_bytes,
        distinct_2: variety::distinct(&written.text, 2),
        repetition: variety::repeated(&written.text, 4),
        longest_copy_chars: copied.clone().map(|range| written.text.get(range).map_or(0, |s| s.chars().count())),
        decode_chars_per_s: written.tokens_per_s.map(|rate| rate * written.chars_per_token),
        sample_tokens: written.tokens,
        sample: written.text,
        copied,
        surprise,
        level: tokenizer.level(),
        curve: history.curve,
        trained: history.trained,
    })
}

/// A sample and how fast it was written.
struct Written {
    text: String,
    tokens: usize,
    tokens_per_s: Option<f64>,
    chars_per_token: f64,
}

fn write(contender: &Contender, prompt: &str, chars_per_token: f64, options: &Options) -> Result<Written> {
    let tokens = match options.sample {
        SampleLength::Tokens(n) => n,
        // A fifth more than needed on average; what is too much is cut off.
        SampleLength::Chars(n) => (n as f64 / chars_per_token.max(1e-3) * 1.2).ceil() as usize,
    };
    let sampling = Sampling { temperature: options.temperature, seed: options.seed, ..Sampling::default() };
    let settings = GenerateOptions { length: Length::Tokens(tokens), sampling, ..GenerateOptions::default() };
    let go_on = &mut |_: usize, _: &str| ControlFlow::Continue(());
    let written = generate(&contender.model, &contender.tokenizer, prompt, &settings, go_on)?;
    let rate = written.decode_tokens_per_s();
    let Some(sample) = written.samples.into_iter().next() else {
        return Err(Error::Unsupported("the model wrote nothing".into()));
    };
    let chars_per_token = sample.text.chars().count() as f64 / sample.tokens.max(1) as f64;
    let text = match options.sample {
        SampleLength::Tokens(_) => sample.text,
        SampleLength::Chars(n) => beginning(&sample.text, n).to_string(),
    };
    let tokens_per_s = (sample.tokens > 1 && rate.is_finite()).then_some(rate);
    Ok(Written { text, tokens: sample.tokens, tokens_per_s, chars_per_token })
}

/// The longest passage of the sample in the training texts, in bytes of the sample; `None` when they are not known.
fn longest_copy(sample: &str, training: &[Arc<str>]) -> Option<Range<usize>> {
    let passages = copied::Passages::new(sample);
    let found = training.iter().map(|text| passages.longest_in(text));
    // Of equals the first.
    let chars = found.reduce(|best, next| if next.len() > best.len() { next } else { best })?;
    let place = |n| sample.char_indices().nth(n).map_or(sample.len(), |(at, _)| at);
    Some(place(chars.start)..place(chars.end))
}

#[cfg(test)]
mod tests;
