//! What every request passes: the count, the stop, the host, the key, other origins.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    AUTHORIZATION, HOST, HeaderValue, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;

use crate::app::App;
use crate::http::ApiError;

/// Who asks: the key, or else the address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(pub(crate) u64);

/// Routes that need no key: they tell nothing of the models' texts and take no time.
const OPEN: [&str; 7] = ["/health", "/ready", "/", "/page/{name}", "/docs", "/openapi.json", "/api/train/{id}/report"];

/// Lets a request through, or says why not.
pub(crate) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    // The route's pattern, so that what is counted is bounded.
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_string();
    let origin = request.headers().get(ORIGIN).cloned();
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key("access-control-request-method");
    let mut response = match admit(&app, &request, &route) {
        _ if preflight => StatusCode::NO_CONTENT.into_response(),
        Ok(client) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    allow_origin(&app, origin, preflight, response.headers_mut());
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    app.requests.note(&route, response.status().as_u16());
    response
}

fn admit(app: &App, request: &Request, route: &str) -> Result<Client, ApiError> {
    let address = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
    let open = OPEN.contains(&route);
    if app.stopping() && !open {
        return Err(crate::engine::Failure::Stopping.into());
    }
    if app.options.keys.is_empty() {
        check_host(app, request.headers())?;
        return Ok(Client(by_address(address)));
    }
    match (key(request.headers()).and_then(|key| app.options.keys.find(key)), open) {
        (Some(number), _) => Ok(Client(number)),
        (None, true) => Ok(Client(by_address(address))),
        (None, false) => {
            let message = "the API key is missing or wrong; send it in the header Authorization: Bearer KEY";
            Err(ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"))
        }
    }
}

fn key(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

fn by_address(address: Option<IpAddr>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    address.hash(&mut hasher);
    hasher.finish()
}

/// A page of another host can have its own name resolved to the loopback and then is of the same origin; what it cannot
/// do is to send another name. Where keys are asked for, or everybody is let in, it has nothing to gain.
fn check_host(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let local = name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok();
    match local || !app.options.addr.ip().is_loopback() {
        true => Ok(()),
        false => {
            let message = "the Host header names another host; ask for localhost, or start with --api-key-file";
            Err(ApiError::new(StatusCode::FORBIDDEN, message).code("wrong_host"))
        }
    }
}

/// Pages of the named origins may read the answer.
fn allow_origin(app: &App, origin: Option<HeaderValue>, preflight: bool, headers: &mut HeaderMap) {
    if app.options.cors_origins.is_empty() {
        return;
    }
    headers.append(VARY, HeaderValue::from_static("origin"));
    let named =
        |origin: &HeaderValue| app.options.cors_origins.iter().any(|o| o == "*" || o.as_bytes() == origin.as_bytes());
    let Some(origin) = origin.filter(named) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if preflight {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}
