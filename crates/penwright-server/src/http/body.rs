//! The body of a request: JSON, not too long, in time.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ApiError;

/// Reads a JSON object of at most `most` bytes; and how many they are.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    most: usize,
    limit: Duration,
) -> Result<(Map<String, Value>, usize), ApiError> {
    // A form or plain text is what a page of another origin can send without being allowed to.
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let message = "the body must be JSON; send the header Content-Type: application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let late = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time; send it faster");
    let raw = tokio::time::timeout(limit, bytes(body, most)).await.map_err(late)??;
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message).code("invalid_json");
    let text = std::str::from_utf8(&raw).map_err(|e| bad(format!("the body is not UTF-8 text: {e}")))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok((fields, raw.len())),
        Ok(_) => Err(bad("the body must be a JSON object".into())),
        Err(error) => Err(bad(format!("the body is not JSON: {error}"))),
    }
}

/// The fields as the type that they make up.
pub(crate) fn parsed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, ApiError> {
    let bad = |error: serde_json::Error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string());
    serde_json::from_value(Value::Object(fields)).map_err(bad)
}

async fn bytes(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let (mut all, mut length, mut parts) = (Vec::new(), 0, body.into_data_stream());
    while let Some(part) = parts.next().await {
        let broken = |_| ApiError::new(StatusCode::BAD_REQUEST, "the body broke off; send it again");
        let part = part.map_err(broken)?;
        length += part.len();
        if length <= most {
            all.extend_from_slice(&part);
        } else if length > 2 * most {
            break;
        }
    }
    // What is not much too long is read to its end: a client that still writes does not see the answer.
    if length > most {
        let message = format!("the body is longer than {most} bytes; send less, or raise --max-body");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("body_too_large"));
    }
    Ok(all)
}
