//! Training, where the server allows it: `docs/page.md` has the requests.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use axum::http::{Response, StatusCode};
use penwright::model::ModelKind;
use penwright::report::REPORT;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::{ApiError, events, json as answer, parsed, read, typed};
use crate::train::{Following, Run, Trainer};

/// Bytes of a request that brings a text to train on.
const MAX_TEXT: usize = 64 << 20;
/// Seconds of a budget.
pub(super) const BUDGET: std::ops::RangeInclusive<u64> = 10..=7 * 24 * 3600;
/// The report stands alone and has its style and script inside; it may do nothing else.
const REPORT_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; sandbox allow-scripts";

/// What is asked of a training.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    name: String,
    kind: ModelKind,
    budget_s: u64,
    text: String,
}

impl Wish {
    /// # Errors
    /// When a field cannot work. A name is one of a folder and nothing else: no path leads out of where runs are.
    fn check(&self) -> Result<(), ApiError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > 60 || self.name.starts_with('.') || !self.name.chars().all(plain) {
            let message = "name must be of letters, digits, -, _ and ., 60 at most, and not begin with a .";
            return Err(ApiError::field("name", message));
        }
        if !BUDGET.contains(&self.budget_s) {
            let message = format!("budget_s must be from {} to {} seconds", BUDGET.start(), BUDGET.end());
            return Err(ApiError::field("budget_s", message));
        }
        match self.text.trim().is_empty() {
            true => Err(ApiError::field("text", "text is empty; send what to train on")),
            false => Ok(()),
        }
    }
}

fn trainer(app: &App) -> Result<&Trainer, ApiError> {
    let message = "training is not allowed here; start the server with --allow-training";
    app.trainer.as_ref().ok_or_else(|| ApiError::new(StatusCode::FORBIDDEN, message).code("training_not_allowed"))
}

/// The id in a path; one that is not UTF-8 is none.
type Id = Result<Path<String>, PathRejection>;

fn find(app: &App, id: Id) -> Result<Arc<Run>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    trainer(app)?.find(&id)
}

/// `GET /api/server`: what the page may offer.
pub(super) async fn server(State(app): State<Arc<App>>) -> Response<Body> {
    let about = json!({"version": env!("CARGO_PKG_VERSION"), "training": app.trainer.is_some()});
    answer(StatusCode::OK, &about)
}

/// `GET /api/train`: the runs since the server began.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response<Body>, ApiError> {
    let runs: Vec<Value> = trainer(&app)?.runs().iter().map(|run| run.card()).collect();
    Ok(answer(StatusCode::OK, &json!({"runs": runs})))
}

/// `POST /api/train`: begins a run.
pub(super) async fn begin(State(app): State<Arc<App>>, request: Request) -> Result<Response<Body>, ApiError> {
    let trainer = trainer(&app)?;
    let (parts, body) = request.into_parts();
    let (fields, _) = read(&parts.headers, body, MAX_TEXT, app.options.client_timeout).await?;
    let wish: Wish = parsed(fields)?;
    wish.check()?;
    let run = trainer.begin(&wish.name, wish.kind, wish.text, Duration::from_secs(wish.budget_s))?;
    Ok(answer(StatusCode::ACCEPTED, &run.card()))
}

/// `POST /api/train/{id}/stop`: ends a run after the step at hand; it keeps what it has.
pub(super) async fn stop(State(app): State<Arc<App>>, id: Id) -> Result<Response<Body>, ApiError> {
    let run = find(&app, id)?;
    run.stop();
    Ok(answer(StatusCode::OK, &run.card()))
}

/// `GET /api/train/{id}/report`: the report, as far as it is written. A browser opens it by itself and sends no key; the id
/// is one, since nobody can guess it.
pub(super) async fn report(State(app): State<Arc<App>>, id: Id) -> Result<Response<Body>, ApiError> {
    let run = find(&app, id)?;
    let missing =
        |_| ApiError::new(StatusCode::NOT_FOUND, "the report is not written yet; try again").code("not_found");
    let page = std::fs::read(run.out.join(REPORT)).map_err(missing)?;
    let mut response = typed("text/html; charset=utf-8", page);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(REPORT_POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `GET /api/train/{id}/events`: what has happened and what will.
pub(super) async fn follow(State(app): State<Arc<App>>, id: Id) -> Result<Response<Body>, ApiError> {
    let run = find(&app, id)?;
    Ok(events(Following::new(run)))
}
