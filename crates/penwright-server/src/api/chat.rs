//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use penwright::generate::{ChatOptions, Message, Prompt, Role, Sampling};
use serde_json::{Value, json};

use super::call::{Ask, Call, Text};
use super::choice::{sampling, stops};
use super::completions::{Head, pass_over, reason, stream_usage, usage};
use super::fields::{Fields, wrong};
use super::stream::{Chunks, Stream};
use super::tokens::content;
use crate::app::App;
use crate::engine::{Event, Token};
use crate::http::{ApiError, events, json as answer};
use crate::models::Model;
use crate::random::random;

/// Replies to one conversation.
const TEXTS: u64 = 128;
/// Likeliest tokens beside each token.
const ALTERNATIVES: u64 = 20;
/// Turns of a conversation.
const TURNS: usize = 4096;
/// The library numbers a reply written anew so far from the one before.
const RETRY: u64 = 1 << 32;

/// What a request asks for.
struct Conversation {
    model: Arc<Model>,
    client: u64,
    prompt: Arc<Prompt>,
    /// The number of the first reply.
    first: u64,
    n: usize,
    /// How many alternatives beside each token, if tokens are asked for.
    log_probs: Option<usize>,
    stream: bool,
    usage: bool,
}

pub(crate) async fn chat(State(app): State<Arc<App>>, request: Request) -> Result<Response<Body>, ApiError> {
    let conversation = Fields::read(&app, request).await?.parse(&app, Conversation::parse).await?;
    let ask = Ask { apart: RETRY, top: conversation.log_probs, ..Ask::texts(conversation.n) };
    let prompts = [(conversation.prompt.clone(), conversation.first)];
    let call = Call::new(&app, &conversation.model, conversation.client, &prompts, ask)?;
    let head = Head::new("chatcmpl");
    if conversation.stream {
        let begun = vec![false; conversation.n];
        return Ok(events(Stream::new(call, Streamed { head, conversation, begun, written: 0 })));
    }
    let texts = call.finish(1, ask).await?.pop().unwrap_or_default().texts;
    Ok(answer(StatusCode::OK, &conversation.answer(&head, texts)))
}

impl Conversation {
    fn parse(mut fields: Fields, app: &App) -> Result<Self, ApiError> {
        let model = fields.model(app)?;
        let messages = messages(&mut fields)?;
        let (sampling, seed) = sampling(&mut fields, &model)?;
        let sampling = Sampling { seed: seed.unwrap_or_else(random), ..sampling };
        let stop = stops(&mut fields)?;
        let most = app.options.max_tokens;
        let tokens =
            [fields.whole("max_completion_tokens", 1..=most as u64)?, fields.whole("max_tokens", 1..=most as u64)?];
        let n = fields.whole("n", 1..=TEXTS)?.unwrap_or(1) as usize;
        let (log_probs, stream) = (fields.flag("logprobs")?, fields.flag("stream")?);
        let alternatives = fields.whole("top_logprobs", 0..=ALTERNATIVES)?.unwrap_or(0) as usize;
        if alternatives > 0 && !log_probs {
            return Err(ApiError::field("top_logprobs", "top_logprobs needs logprobs to be true"));
        }
        let usage = stream_usage(&mut fields)?;
        refuse(&mut fields)?;
        let client = fields.client;
        fields.end()?;
        let options = ChatOptions {
            format: model.chat.clone(),
            system: String::new(),
            sampling,
            tokens: tokens.into_iter().flatten().next().map_or(model.usual_tokens().min(most), |n| n as usize),
            stop,
        };
        let (prompt, first) =
            Prompt::of_chat(&model.run.model, &model.run.tokenizer, options, &messages).map_err(of_messages)?;
        let log_probs = log_probs.then_some(alternatives);
        Ok(Conversation { model, client, prompt: Arc::new(prompt), first, n, log_probs, stream, usage })
    }

    fn log_probs(&self, tokens: &[Token]) -> Option<Value> {
        let tokenizer = &self.model.run.tokenizer;
        self.log_probs.map(|alternatives| json!({"content": content(tokenizer, tokens, alternatives), "refusal": null}))
    }

    fn answer(&self, head: &Head, texts: Vec<Text>) -> Value {
        let written = texts.iter().map(|text| text.sample.tokens).sum();
        let choice = |(index, text): (usize, Text)| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": text.sample.text, "refusal": null},
                "logprobs": self.log_probs(&text.tokens),
                "finish_reason": reason(Some(text.sample.finish_reason))
            })
        };
        let choices = texts.into_iter().enumerate().map(choice).collect();
        let mut value = head.value("chat.completion", &self.model, choices);
        value["usage"] = self.used(written);
        value
    }

    fn used(&self, written: usize) -> Value {
        usage(self.prompt.tokens().len(), written)
    }
}

/// What the library says of the turns and of the system's text is about this field.
fn of_messages(error: penwright::Error) -> ApiError {
    match error {
        penwright::Error::Text(problem) => ApiError::field("messages", format!("messages: {problem}")),
        penwright::Error::Setting { name: "system", problem } => {
            ApiError::field("messages", format!("messages: the system's text {problem}"))
        }
        other => other.into(),
    }
}

fn messages(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let values = match fields.take("messages") {
        Some(Value::Array(values)) if (1..=TURNS).contains(&values.len()) => values,
        Some(Value::Array(values)) => {
            let message = format!("messages is a list of {}; give 1 to {TURNS}", values.len());
            return Err(ApiError::field("messages", message));
        }
        Some(other) => return Err(wrong("messages", "a list of messages", &other)),
        None => return Err(ApiError::field("messages", "messages is missing; give the turns of the conversation")),
    };
    values.into_iter().enumerate().map(|(i, value)| message(&format!("messages[{i}]"), value)).collect()
}

fn message(name: &str, value: Value) -> Result<Message, ApiError> {
    let Value::Object(mut message) = value else {
        return Err(wrong(name, "an object with role and content", &value));
    };
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            let role = message.get("role").unwrap_or(&Value::Null);
            return Err(wrong(&format!("{name}.role"), "system, developer, user or assistant", role));
        }
    };
    let content = format!("{name}.content");
    let text = match message.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match part["type"].as_str() {
                Some("text") => part["text"].as_str().map(String::from),
                _ => None,
            };
            let parts: Option<Vec<String>> = parts.iter().map(text).collect();
            parts
                .ok_or_else(|| ApiError::field(&content, format!("{content} may have parts of type text alone")))?
                .concat()
        }
        other => return Err(wrong(&content, "a text, or a list of parts of type text", &other.unwrap_or_default())),
    };
    Ok(Message::new(role, text))
}

/// What the models cannot do.
fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    let none = [Value::Array(Vec::new())];
    for name in ["tools", "functions"] {
        fields.refuse(name, &none, "the models write text alone")?;
    }
    for name in ["tool_choice", "function_call"] {
        fields.refuse(name, &["none".into(), "auto".into()], "the models write text alone")?;
    }
    fields.refuse("response_format", &[json!({"type": "text"})], "the models write plain text")?;
    fields.refuse("modalities", &[json!(["text"])], "the models write text alone")?;
    fields.pass_over(&["parallel_tool_calls", "reasoning_effort", "verbosity"]);
    pass_over(fields);
    Ok(())
}

/// Replies as they come.
struct Streamed {
    head: Head,
    conversation: Conversation,
    /// Whether a choice has said who speaks.
    begun: Vec<bool>,
    written: usize,
}

impl Streamed {
    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut value = self.head.value("chat.completion.chunk", &self.conversation.model, choices);
        if self.conversation.usage {
            value["usage"] = Value::Null;
        }
        value
    }

    fn choice(&self, index: usize, delta: Value, tokens: Option<&[Token]>, finished: Option<&str>) -> Value {
        let log_probs = tokens.and_then(|tokens| self.conversation.log_probs(tokens));
        self.chunk(vec![json!({"index": index, "delta": delta, "logprobs": log_probs, "finish_reason": finished})])
    }
}

impl Chunks for Streamed {
    fn of(&mut self, _prompt: usize, event: Event) -> Vec<Value> {
        let index = match &event {
            Event::Piece { text, .. } | Event::Done { text, .. } => *text,
            _ => return Vec::new(),
        };
        let mut chunks = Vec::new();
        if !std::mem::replace(&mut self.begun[index], true) {
            chunks.push(self.choice(index, json!({"role": "assistant", "content": ""}), None, None));
        }
        match event {
            Event::Piece { piece, tokens, .. } => {
                chunks.push(self.choice(index, json!({"content": piece}), Some(&tokens), None));
            }
            Event::Done { sample, .. } => {
                self.written += sample.tokens;
                chunks.push(self.choice(index, json!({}), None, reason(Some(sample.finish_reason))));
            }
            _ => {}
        }
        chunks
    }

    fn last(&self) -> Option<Value> {
        let mut last = self.chunk(Vec::new());
        last["usage"] = self.conversation.used(self.written);
        self.conversation.usage.then_some(last)
    }
}
