//! The routes and what they answer.

mod call;
mod chat;
mod choice;
mod completions;
mod exposition;
mod fields;
mod guard;
mod inside;
mod judge;
mod openapi;
mod score;
mod status;
mod stream;
mod tokens;
mod train;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::app::App;
use crate::http::ApiError;
use crate::page;
use guard::guard;

/// All routes behind the guard.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/completions", post(completions::completions))
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/models", get(status::models))
        .route("/v1/models/{*id}", get(status::model))
        .route("/v1/score", post(score::score))
        .route("/api/models", get(status::shapes))
        .route("/api/next", post(judge::next))
        .route("/api/surprise", post(judge::surprise))
        .route("/api/server", get(train::server))
        .route("/api/inside/lstm", post(inside::lstm))
        .route("/api/inside/gpt2", post(inside::gpt2))
        .route("/api/train", get(train::list).post(train::begin))
        .route("/api/train/{id}/events", get(train::follow))
        .route("/api/train/{id}/stop", post(train::stop))
        .route("/api/train/{id}/report", get(train::report))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/docs", get(page::docs))
        .route("/", get(page::index))
        .route("/page/{name}", get(page::named))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

async fn unknown(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(80).collect();
    let message = format!("there is no {path}; /docs shows what there is");
    ApiError::new(StatusCode::NOT_FOUND, message).code("unknown_url")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(80).collect();
    let message = format!("{path} does not take {method}; /docs shows what it takes");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).code("method_not_allowed")
}
