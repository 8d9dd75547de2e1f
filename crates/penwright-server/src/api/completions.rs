//! `POST /v1/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use penwright::generate::{FinishReason, GenerateOptions, Length, Prompt, Sampling, clean_prompt};
use penwright::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::call::{Ask, Call, Outcome, Text};
use super::choice::{sampling, stops};
use super::fields::{Fields, wrong};
use super::stream::{Chunks, Stream};
use super::tokens::{Columns, placed};
use crate::app::App;
use crate::engine::{Event, Token};
use crate::http::{ApiError, events, json as answer};
use crate::models::Model;
use crate::random::random;

/// Prompts of a request.
const PROMPTS: usize = 64;
/// Texts of a prompt.
const TEXTS: u64 = 128;
/// Likeliest tokens beside each token.
const ALTERNATIVES: u64 = 20;
/// Tokens of a text when nobody says, as at OpenAI.
const TOKENS: u64 = 16;

/// What a request asks for.
struct Completion {
    model: Arc<Model>,
    client: u64,
    /// Each prompt and its text.
    prompts: Vec<(Arc<Prompt>, String)>,
    /// Texts that are answered of those that are written.
    n: usize,
    best_of: usize,
    echo: bool,
    log_probs: Option<usize>,
    stream: bool,
    usage: bool,
}

/// A prompt as it was given.
enum Given {
    Text(String),
    Tokens(Vec<u32>),
}

pub(crate) async fn completions(State(app): State<Arc<App>>, request: Request) -> Result<Response<Body>, ApiError> {
    let completion = Fields::read(&app, request).await?.parse(&app, Completion::parse).await?;
    let ask = completion.ask();
    let prompts: Vec<_> = completion.prompts.iter().map(|(prompt, _)| (prompt.clone(), 0)).collect();
    let call = Call::new(&app, &completion.model, completion.client, &prompts, ask)?;
    let head = Head::new("cmpl");
    if completion.stream {
        return Ok(events(Stream::new(call, Streamed::new(head, completion))));
    }
    let outcomes = call.finish(prompts.len(), ask).await?;
    Ok(answer(StatusCode::OK, &completion.answer(&head, outcomes)))
}

impl Completion {
    fn parse(mut fields: Fields, app: &App) -> Result<Self, ApiError> {
        let model = fields.model(app)?;
        let given = prompts(&mut fields)?;
        let (sampling, seed) = sampling(&mut fields, &model)?;
        let stop = stops(&mut fields)?;
        let tokens = fields.whole("max_tokens", 0..=app.options.max_tokens as u64)?;
        let n = fields.whole("n", 1..=TEXTS)?.unwrap_or(1);
        let best_of = fields.whole("best_of", 1..=TEXTS)?.unwrap_or(n);
        if best_of < n {
            return Err(ApiError::field("best_of", format!("best_of is {best_of}, less than n, {n}; give at least n")));
        }
        let log_probs = fields.whole("logprobs", 0..=ALTERNATIVES)?.map(|n| n as usize);
        let (echo, stream) = (fields.flag("echo")?, fields.flag("stream")?);
        let usage = stream_usage(&mut fields)?;
        if stream && best_of > n {
            return Err(ApiError::field(
                "best_of",
                "best_of: the best of several texts cannot be streamed; leave stream out",
            ));
        }
        fields.refuse("suffix", &["".into()], "the models write from left to right only")?;
        pass_over(&mut fields);
        let client = fields.client;
        fields.end()?;
        let options = GenerateOptions {
            length: Length::Tokens(tokens.unwrap_or(TOKENS) as usize),
            stop,
            ..GenerateOptions::default()
        };
        let prompts = given.into_iter().map(|given| {
            let sampling = Sampling { seed: seed.unwrap_or_else(random), ..sampling.clone() };
            prompt(&model, given, &GenerateOptions { sampling, ..options.clone() })
        });
        let prompts = prompts.collect::<Result<_, ApiError>>()?;
        let (n, best_of) = (n as usize, best_of as usize);
        Ok(Completion { model, client, prompts, n, best_of, echo, log_probs, stream, usage })
    }

    fn ask(&self) -> Ask {
        let prompt_top = self.log_probs.filter(|_| self.echo);
        Ask { top: self.log_probs, prompt_top, ..Ask::texts(self.best_of) }
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.model.run.tokenizer
    }

    fn answer(&self, head: &Head, outcomes: Vec<Outcome>) -> Value {
        let (mut choices, mut written) = (Vec::new(), 0);
        for (outcome, (_, prompt)) in outcomes.into_iter().zip(&self.prompts) {
            let Outcome { prompt: scores, mut texts, .. } = outcome;
            let scores = placed(self.tokenizer(), prompt, scores);
            written += texts.iter().map(|text| text.sample.tokens).sum::<usize>();
            let merit = |text: &Text| text.sample.log_prob / text.sample.tokens.max(1) as f64;
            if self.best_of > self.n {
                texts.sort_by(|a, b| merit(b).total_cmp(&merit(a)));
                texts.truncate(self.n);
            }
            for Text { sample, tokens } in texts {
                let log_probs = self.columns(&[(&scores, 0), (&tokens, prompt.chars().count())]);
                let text = if self.echo { format!("{prompt}{}", sample.text) } else { sample.text };
                choices.push(choice(choices.len(), &text, log_probs, Some(sample.finish_reason)));
            }
        }
        let mut value = head.value("text_completion", &self.model, choices);
        value["usage"] = self.used(written);
        value
    }

    /// How likely tokens are, if that was asked for: parts, each with the characters before it.
    fn columns(&self, parts: &[(&[Token], usize)]) -> Option<Value> {
        let alternatives = self.log_probs?;
        let mut columns = Columns::default();
        for &(tokens, offset) in parts {
            columns.add(self.tokenizer(), tokens, offset, alternatives);
        }
        Some(columns.into_json())
    }

    fn used(&self, written: usize) -> Value {
        usage(self.prompts.iter().map(|(prompt, _)| prompt.tokens().len()).sum(), written)
    }
}

/// The prompt or prompts; none is the beginning of a text.
fn prompts(fields: &mut Fields) -> Result<Vec<Given>, ApiError> {
    const KINDS: &str = "a text, a list of texts, a list of token ids, or a list of such lists";
    let values = match fields.take("prompt") {
        None => return Ok(vec![Given::Text(String::new())]),
        Some(Value::String(text)) => return Ok(vec![Given::Text(text)]),
        Some(Value::Array(values)) => values,
        Some(other) => return Err(wrong("prompt", KINDS, &other)),
    };
    let ids = |values: &[Value]| {
        let id = |value: &Value| {
            value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| wrong("prompt", KINDS, value))
        };
        values.iter().map(id).collect::<Result<Vec<u32>, _>>()
    };
    if values.first().is_some_and(Value::is_number) {
        return Ok(vec![Given::Tokens(ids(&values)?)]);
    }
    if values.is_empty() || values.len() > PROMPTS {
        return Err(ApiError::field("prompt", format!("prompt is a list of {}; give 1 to {PROMPTS}", values.len())));
    }
    let given = |value| match value {
        Value::String(text) => Ok(Given::Text(text)),
        Value::Array(values) => Ok(Given::Tokens(ids(&values)?)),
        other => Err(wrong("prompt", KINDS, &other)),
    };
    values.into_iter().map(given).collect()
}

fn prompt(model: &Model, given: Given, options: &GenerateOptions) -> Result<(Arc<Prompt>, String), ApiError> {
    let (lm, tokenizer) = (&model.run.model, &model.run.tokenizer);
    match given {
        Given::Text(text) => {
            let text = clean_prompt(&text);
            Ok((Arc::new(Prompt::new(lm, tokenizer, &text, options)?), text))
        }
        Given::Tokens(ids) => {
            let prompt = Prompt::of_tokens(lm, tokenizer, &ids, options)?;
            let text = tokenizer.decode(prompt.tokens());
            Ok((Arc::new(prompt), text))
        }
    }
}

/// Whether a stream is to end with the number of tokens.
pub(super) fn stream_usage(fields: &mut Fields) -> Result<bool, ApiError> {
    match fields.take("stream_options") {
        None => Ok(false),
        Some(Value::Object(options)) => match options.get("include_usage") {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(usage)) => Ok(*usage),
            Some(other) => Err(wrong("stream_options.include_usage", "true or false", other)),
        },
        Some(other) => Err(wrong("stream_options", "an object", &other)),
    }
}

/// Fields of OpenAI's service that say nothing about the text.
pub(super) fn pass_over(fields: &mut Fields) {
    fields.pass_over(&["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"]);
}

/// `Length` and the rest in OpenAI's words.
pub(super) fn reason(reason: Option<FinishReason>) -> Option<&'static str> {
    reason.map(|reason| if reason == FinishReason::Length { "length" } else { "stop" })
}

fn choice(index: usize, text: &str, log_probs: Option<Value>, finished: Option<FinishReason>) -> Value {
    json!({"index": index, "text": text, "logprobs": log_probs, "finish_reason": reason(finished)})
}

/// Tokens of the prompts and of the texts.
pub(super) fn usage(prompt: usize, written: usize) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written})
}

/// What all parts of an answer have in common.
pub(super) struct Head {
    id: String,
    created: u64,
}

impl Head {
    pub(super) fn new(kind: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Head { id: format!("{kind}-{:016x}", random()), created: now.map_or(0, |now| now.as_secs()) }
    }

    pub(super) fn value(&self, object: &str, model: &Model, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": model.name, "choices": choices
        })
    }
}

/// A completion as it comes.
struct Streamed {
    head: Head,
    completion: Completion,
    /// The prompt's tokens, by prompt, until it is repeated.
    scores: Vec<Vec<Token>>,
    /// Whether the prompt has been repeated, by choice.
    echoed: Vec<bool>,
    written: usize,
}

impl Streamed {
    fn new(head: Head, completion: Completion) -> Self {
        let prompts = completion.prompts.len();
        let (scores, echoed) = (vec![Vec::new(); prompts], vec![!completion.echo; prompts * completion.n]);
        Streamed { head, completion, scores, echoed, written: 0 }
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut value = self.head.value("text_completion", &self.completion.model, choices);
        if self.completion.usage {
            value["usage"] = Value::Null;
        }
        value
    }

    /// The prompt before the first piece of a text.
    fn echo(&mut self, prompt: usize, index: usize) -> Option<Value> {
        if std::mem::replace(&mut self.echoed[index], true) {
            return None;
        }
        let text = &self.completion.prompts[prompt].1;
        let scores = placed(self.completion.tokenizer(), text, self.scores[prompt].clone());
        let log_probs = self.completion.columns(&[(&scores, 0)]);
        Some(self.chunk(vec![choice(index, text, log_probs, None)]))
    }
}

impl Chunks for Streamed {
    fn of(&mut self, prompt: usize, event: Event) -> Vec<Value> {
        let n = self.completion.n;
        match event {
            Event::Prompt(more) => {
                self.scores[prompt].extend(more);
                Vec::new()
            }
            Event::Piece { text, piece, tokens } => {
                let index = prompt * n + text;
                let mut chunks = Vec::from_iter(self.echo(prompt, index));
                let before = self.completion.prompts[prompt].1.chars().count();
                let log_probs = self.completion.columns(&[(&tokens, before)]);
                chunks.push(self.chunk(vec![choice(index, &piece, log_probs, None)]));
                chunks
            }
            Event::Done { text, sample } => {
                let index = prompt * n + text;
                let mut chunks = Vec::from_iter(self.echo(prompt, index));
                self.written += sample.tokens;
                chunks.push(self.chunk(vec![choice(index, "", None, Some(sample.finish_reason))]));
                chunks
            }
            Event::Next(_) | Event::Failed(_) => Vec::new(),
        }
    }

    fn last(&self) -> Option<Value> {
        let mut last = self.chunk(Vec::new());
        last["usage"] = self.completion.used(self.written);
        self.completion.usage.then_some(last)
    }
}
