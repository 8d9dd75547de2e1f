//! Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::Value;

use crate::engine::Failure;

/// What is wrong with a request, or with the server.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    /// The field of the request.
    param: Option<String>,
    code: Option<&'static str>,
    /// Seconds after which to try again.
    retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// A field has a value that cannot work.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        ApiError { param: Some(param.into()), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    pub(crate) fn status(self, status: StatusCode) -> Self {
        ApiError { status, ..self }
    }

    pub(crate) fn code(self, code: &'static str) -> Self {
        ApiError { code: Some(code), ..self }
    }

    /// The error as JSON, as it also comes amid a stream.
    pub(crate) fn value(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        serde_json::json!({
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = json(self.status, &self.value());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let (status, code, retry_after) = match &failure {
            Failure::Full { after, .. } => (StatusCode::TOO_MANY_REQUESTS, "queue_full", Some(*after)),
            Failure::Late { .. } => (StatusCode::GATEWAY_TIMEOUT, "timeout", None),
            Failure::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", Some(5)),
            Failure::Model(_) => (StatusCode::INTERNAL_SERVER_ERROR, "model_failed", None),
        };
        ApiError { retry_after, ..ApiError::new(status, failure.to_string()).code(code) }
    }
}

/// What the library refuses is wrong in the request: its settings have the names of flags.
impl From<penwright::Error> for ApiError {
    fn from(error: penwright::Error) -> Self {
        match error {
            penwright::Error::Setting { name, problem } => {
                let param = name.replace('-', "_");
                ApiError::field(param.clone(), format!("{param}: {problem}"))
            }
            penwright::Error::Text(_) => ApiError::new(StatusCode::BAD_REQUEST, error.to_string()),
            _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

/// A name in the path of a request whose escapes are no text.
impl From<PathRejection> for ApiError {
    fn from(_: PathRejection) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "the path is not UTF-8 text").code("unknown_url")
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = typed(JSON, value.to_string());
    *response.status_mut() = status;
    response
}

/// What JSON is called.
pub(crate) const JSON: &str = "application/json";

/// An answer of some type of content.
pub(crate) fn typed(kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
