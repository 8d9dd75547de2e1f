//! `POST /v1/score`: how likely a model finds texts and their parts.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use penwright::generate::{GenerateOptions, Length, Prompt, clean_prompt};
use penwright::score::{Scored, Unit, of_tokens};
use serde_json::{Value, json};

use super::call::{Ask, Call};
use super::completions::usage;
use super::fields::{Fields, wrong};
use crate::app::App;
use crate::engine::Token;
use crate::http::{ApiError, json as answer};
use crate::models::Model;

/// Texts of a request.
const TEXTS: usize = 64;

/// Texts to be read, and not to be continued.
pub(super) struct Texts {
    pub(super) model: Arc<Model>,
    client: u64,
    texts: Vec<String>,
    prompts: Vec<(Arc<Prompt>, u64)>,
}

impl Texts {
    pub(super) fn new(model: Arc<Model>, client: u64, texts: Vec<String>) -> Result<Self, ApiError> {
        let options = GenerateOptions { length: Length::Tokens(0), ..GenerateOptions::default() };
        let texts: Vec<String> = texts.iter().map(|text| clean_prompt(text)).collect();
        let prompt = |text: &String| {
            let prompt = Prompt::new(&model.run.model, &model.run.tokenizer, text, &options)?;
            Ok((Arc::new(prompt), 0))
        };
        let prompts = texts.iter().map(prompt).collect::<Result<_, ApiError>>()?;
        Ok(Texts { model, client, texts, prompts })
    }

    /// Each text with its tokens and how likely they are, `top` alternatives beside each.
    pub(super) async fn scored(self, app: &App, top: usize) -> Result<Vec<(String, Vec<Token>)>, ApiError> {
        let ask = Ask::scores(top);
        let call = Call::new(app, &self.model, self.client, &self.prompts, ask)?;
        let outcomes = call.finish(self.texts.len(), ask).await?;
        Ok(self.texts.into_iter().zip(outcomes.into_iter().map(|outcome| outcome.prompt)).collect())
    }

    /// The `count` likeliest tokens after the first text.
    pub(super) async fn next(self, app: &App, count: usize) -> Result<Vec<(u32, f32)>, ApiError> {
        let ask = Ask { next: count, ..Ask::texts(0) };
        let call = Call::new(app, &self.model, self.client, &self.prompts, ask)?;
        let outcomes = call.finish(self.texts.len(), ask).await?;
        Ok(outcomes.into_iter().next().unwrap_or_default().next)
    }
}

pub(crate) async fn score(State(app): State<Arc<App>>, request: Request) -> Result<Response<Body>, ApiError> {
    let (texts, unit) = Fields::read(&app, request).await?.parse(&app, parse).await?;
    let model = texts.model.clone();
    let (mut data, mut tokens) = (Vec::new(), 0);
    for (index, (text, scored)) in texts.scored(&app, 0).await?.into_iter().enumerate() {
        tokens += scored.len();
        let mut value = match parts(&model, &text, &scored, Unit::Text).first() {
            Some(whole) => json!(whole),
            None => json!({"text": text, "log_prob": 0.0, "tokens": 0, "bits_per_char": 0.0}),
        };
        (value["object"], value["index"]) = ("score".into(), index.into());
        if let Some(unit) = unit {
            value["parts"] = json!(parts(&model, &text, &scored, unit));
        }
        data.push(value);
    }
    let value: Value = json!({"object": "list", "model": model.name, "data": data, "usage": usage(tokens, 0)});
    Ok(answer(StatusCode::OK, &value))
}

fn parse(mut fields: Fields, app: &App) -> Result<(Texts, Option<Unit>), ApiError> {
    let model = fields.model(app)?;
    let texts = fields.strings("text", TEXTS)?;
    let unit = match fields.string("by")?.as_deref() {
        None => None,
        Some("token") => Some(Unit::Token),
        Some("word") => Some(Unit::Word),
        Some("sentence") => Some(Unit::Sentence),
        Some("paragraph") => Some(Unit::Paragraph),
        Some(other) => return Err(wrong("by", "token, word, sentence or paragraph", &other.into())),
    };
    let client = fields.client;
    fields.end()?;
    if texts.is_empty() {
        return Err(ApiError::field("text", "text is missing; give a text, or a list of texts"));
    }
    Ok((Texts::new(model, client, texts)?, unit))
}

fn parts(model: &Model, text: &str, scored: &[Token], unit: Unit) -> Vec<Scored> {
    let ids: Vec<u32> = scored.iter().map(|token| token.id).collect();
    let log_probs: Vec<f64> = scored.iter().map(|token| f64::from(token.log_prob)).collect();
    of_tokens(&model.run.tokenizer, text, unit, &ids, &log_probs)
}
