//! What is here, and how it is.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::exposition;
use crate::app::App;
use crate::http::{ApiError, json as answer, typed};

/// `GET /v1/models`.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Response<Body> {
    let data: Vec<Value> = app.engine.models().iter().map(|model| model.card()).collect();
    answer(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{id}`; an id of the hub has a slash.
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, ApiError> {
    Ok(answer(StatusCode::OK, &app.model(Some(&id?.0))?.card()))
}

/// `GET /api/models`.
pub(crate) async fn shapes(State(app): State<Arc<App>>) -> Response<Body> {
    let shapes: Vec<Value> = app.engine.models().iter().map(|model| model.shape()).collect();
    answer(StatusCode::OK, &shapes.into())
}

/// `GET /health`: whether the process is well.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    match app.engine.is_alive() {
        true => answer(StatusCode::OK, &json!({"status": "ok"})),
        false => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({"status": "the computing thread has ended; restart"}))
        }
    }
}

/// `GET /ready`: whether requests are taken.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    match app.engine.is_alive() && !app.stopping() {
        true => answer(StatusCode::OK, &json!({"status": "ready"})),
        false => answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "stopping"})),
    }
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    typed("text/plain; version=0.0.4; charset=utf-8", exposition::text(&app.requests, &app.engine.models()))
}
