//! The page, embedded: exactly the files of `page/` beside `src/`.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
    X_FRAME_OPTIONS,
};
use axum::http::{Response, StatusCode};
use xxhash_rust::xxh3::xxh3_64;

use crate::http::{ApiError, typed};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/page/", $name)))),*]
    };
}

/// Name and content.
type File = (&'static str, &'static [u8]);

/// A test compares the list with the folder.
const FILES: &[File] = files![
    "api.js",
    "app.js",
    "block.js",
    "cell.js",
    "compare.js",
    "curve.js",
    "docs.css",
    "docs.html",
    "docs.js",
    "dom.js",
    "gpt2.js",
    "icon.svg",
    "index.html",
    "inside.css",
    "inside.js",
    "lens.js",
    "lstm.js",
    "matrix.js",
    "models.js",
    "options.js",
    "sheet.js",
    "strip.js",
    "style.css",
    "tokens.js",
    "train.js",
    "trouble.js",
    "write.js"
];

/// Nothing from elsewhere, nothing inline.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// `GET /`.
pub(crate) async fn index(headers: HeaderMap) -> Result<Response<Body>, ApiError> {
    file(&headers, "index.html")
}

/// `GET /docs`: the page of the API.
pub(crate) async fn docs(headers: HeaderMap) -> Result<Response<Body>, ApiError> {
    file(&headers, "docs.html")
}

/// `GET /page/NAME`.
pub(crate) async fn named(
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    file(&headers, &name?.0)
}

fn file(headers: &HeaderMap, name: &str) -> Result<Response<Body>, ApiError> {
    let Some((name, content)) = FILES.iter().find(|(file, _)| *file == name) else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "there is no such file").code("not_found"));
    };
    let etag = format!("\"{:016x}\"", xxh3_64(content));
    let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let same = known.is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
    let mut response = typed(kind(name), if same { Body::empty() } else { Body::from(*content) });
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    Ok(response)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_and_refers_to_nothing_elsewhere() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut there: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        there.sort();
        assert_eq!(FILES.iter().map(|f| f.0).collect::<Vec<_>>(), there, "list the files of page/ in FILES, by name");
        for (name, content) in FILES.iter().filter(|(name, _)| name.ends_with(".html")) {
            let text = std::str::from_utf8(content).unwrap();
            let elsewhere = ["src=\"http", "src=\"//", "href=\"http", "href=\"//", "<style", " style=", "onclick="];
            assert!(elsewhere.iter().all(|bad| !text.contains(bad)), "{name} breaks the page's own policy");
        }
    }
}
