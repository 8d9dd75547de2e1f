//! Server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use serde_json::Value;

use super::error::typed;

/// How long nothing may come before a comment says that the connection lives.
const QUIET: Duration = Duration::from_secs(15);

/// What comes one after another.
pub(crate) trait Events: Send + 'static {
    /// The next events, at least one; none at the end.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Value>>> + Send;
}

enum State<E> {
    More(E),
    Over,
}

/// An answer of events, each a JSON object, and `[DONE]` at the end.
pub(crate) fn events<E: Events>(events: E) -> Response<Body> {
    let stream = futures_util::stream::unfold(State::More(events), |state| async {
        let State::More(mut events) = state else { return None };
        let (text, state) = match tokio::time::timeout(QUIET, events.next()).await {
            Err(_) => (": still here\n\n".to_string(), State::More(events)),
            Ok(Some(values)) => (values.iter().map(|v| format!("data: {v}\n\n")).collect(), State::More(events)),
            Ok(None) => ("data: [DONE]\n\n".to_string(), State::Over),
        };
        Some((Ok::<_, Infallible>(text), state))
    });
    let mut response = typed("text/event-stream", Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // A proxy in between is not to wait for the end.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
