//! What the page asks beside the texts: what may come next, and how surprising a text is.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::fields::Fields;
use super::score::Texts;
use crate::app::App;
use crate::engine::Token;
use crate::http::{ApiError, json as answer};
use crate::models::Model;

/// Tokens that can be asked for in one place, and how many come when nobody says.
const MOST: u64 = 100;
const USUAL: u64 = 10;

/// The text and the number of alternatives that both requests name.
fn parse(mut fields: Fields, app: &App) -> Result<(Texts, usize), ApiError> {
    let model = fields.model(app)?;
    let text = fields.string("text")?.unwrap_or_default();
    let top = fields.whole("top", 0..=MOST)?.unwrap_or(USUAL) as usize;
    let client = fields.client;
    fields.end()?;
    Ok((Texts::new(model, client, vec![text])?, top))
}

/// `POST /api/next`: the likeliest tokens after a text.
pub(crate) async fn next(State(app): State<Arc<App>>, request: Request) -> Result<Response<Body>, ApiError> {
    let (text, top) = Fields::read(&app, request).await?.parse(&app, parse).await?;
    let model = text.model.clone();
    let tokens = alternatives(&model, &text.next(&app, top).await?);
    Ok(answer(StatusCode::OK, &json!({"model": model.name, "tokens": tokens})))
}

/// `POST /api/surprise`: each token of a text, how likely it was, and what else was.
pub(crate) async fn surprise(State(app): State<Arc<App>>, request: Request) -> Result<Response<Body>, ApiError> {
    let (text, top) = Fields::read(&app, request).await?.parse(&app, parse).await?;
    let model = text.model.clone();
    let (text, tokens) = text.scored(&app, top).await?.pop().unwrap_or_default();
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    let token = |(token, span): (&Token, Range<usize>)| {
        json!({
            "id": token.id, "text": text.get(span).unwrap_or_default(), "log_prob": token.log_prob,
            "alternatives": alternatives(&model, &token.top)
        })
    };
    let tokens: Vec<Value> = tokens.iter().zip(model.run.tokenizer.spans(&text, &ids)).map(token).collect();
    Ok(answer(StatusCode::OK, &json!({"model": model.name, "tokens": tokens})))
}

/// Tokens for people, with their probabilities.
fn alternatives(model: &Model, tokens: &[(u32, f32)]) -> Vec<Value> {
    let named =
        |&(id, log_prob): &(u32, f32)| json!({"id": id, "text": model.run.tokenizer.piece(id), "prob": log_prob.exp()});
    tokens.iter().map(named).collect()
}
