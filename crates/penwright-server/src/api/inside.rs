//! What goes on inside the models, for the page: the requests and answers are types of [`penwright::inside`].

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use penwright::inside;
use penwright::model::LanguageModel;
use penwright::tokenizer::Tokenizer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::http::{ApiError, JSON, parsed, read, typed};

/// Only one looks inside at a time: what is computed takes all threads, and writing goes on beside it.
static ONE: Semaphore = Semaphore::const_new(1);
/// How long one waits for another.
const WAIT: Duration = Duration::from_secs(20);

/// `POST /api/inside/lstm`.
pub(super) async fn lstm(State(app): State<Arc<App>>, request: Request) -> Result<Response<Body>, ApiError> {
    look(&app, request, inside::lstm).await
}

/// `POST /api/inside/gpt2`.
pub(super) async fn gpt2(State(app): State<Arc<App>>, request: Request) -> Result<Response<Body>, ApiError> {
    look(&app, request, inside::gpt2).await
}

type Look<Q, A> = fn(&dyn LanguageModel, &Tokenizer, &Q) -> penwright::Result<A>;

async fn look<Q, A>(app: &App, request: Request, look: Look<Q, A>) -> Result<Response<Body>, ApiError>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
{
    let (parts, body) = request.into_parts();
    let (fields, _) = read(&parts.headers, body, app.options.max_body, app.options.client_timeout).await?;
    let model = app.model(fields.get("model").and_then(Value::as_str))?;
    let request: Q = parsed(fields)?;
    let busy = || {
        let message = "somebody else is looking inside a model; try again in a moment";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).code("busy")
    };
    let turn = tokio::time::timeout(WAIT, ONE.acquire()).await.map_err(|_| busy())?.map_err(|_| busy())?;
    let looking = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let found = look(&*model.run.model, &model.run.tokenizer, &request)?;
        // As text at once: as values, f32s would get digits that they do not have.
        Ok::<_, penwright::Error>(serde_json::to_string(&found).unwrap_or_default())
    });
    let lost = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the computation broke off; try again");
    match looking.await.map_err(lost)? {
        Ok(found) => Ok(typed(JSON, found)),
        // What cannot be shown is wrong in the request.
        Err(penwright::Error::Unsupported(message)) => Err(ApiError::new(StatusCode::BAD_REQUEST, message)),
        Err(error) => Err(error.into()),
    }
}
