//! The dashboard: a web application over the API, whose built files are part of this program.
//!
//! Its files are public: they contain no data, and the API decides what a person may see. Debug builds
//! read them from `web/dist` at each request, so that `make web` is enough to see a change.

use std::borrow::Cow;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as FromPath, Request};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::http::AppState;
use crate::http::problem::Problem;

#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Files;

const INDEX: &str = "index.html";
const MISSING: &str = include_str!("../../../templates/dashboard_missing.html");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// Scripts and styles are files of this server; none is inline, and no page makes markup from text.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html muster-worker",
);
/// The names of these files change with their contents.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const CHECKED: HeaderValue = HeaderValue::from_static("no-cache");
/// What browsers decode, best first, and the ending of the file that has it.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

pub(in crate::http) fn routes() -> Router<AppState> {
    Router::new().route("/assets/{name}", get(show_asset)).route("/favicon.svg", get(show_icon))
}

/// Answers every address that nothing else answers: the dashboard, if a browser goes there, because
/// the dashboard's own addresses (`/fleet`) are not known here.
pub(in crate::http) async fn show_page(request: Request) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read || !is_navigation(&request) {
        return Problem::not_found("path").into_response();
    }
    match file(INDEX, request.headers(), CHECKED) {
        Some(mut response) => {
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
            response
        }
        None => ([(CONTENT_TYPE, HTML), (CACHE_CONTROL, CHECKED)], MISSING).into_response(),
    }
}

async fn show_asset(FromPath(name): FromPath<String>, headers: HeaderMap) -> Response {
    file(&format!("assets/{name}"), &headers, IMMUTABLE)
        .unwrap_or_else(|| Problem::not_found("path").into_response())
}

async fn show_icon(headers: HeaderMap) -> Response {
    file("favicon.svg", &headers, CHECKED)
        .unwrap_or_else(|| Problem::not_found("path").into_response())
}

/// Programs that call a wrong address of the API get a problem document, also if they accept anything.
fn is_navigation(request: &Request) -> bool {
    let path = request.uri().path();
    let is_api = path == "/api" || path.starts_with("/api/");
    let accepted = request.headers().get_all(ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    !is_api && accepted.any(|value| value.contains("text/html"))
}

/// The embedded file in the best encoding that the browser decodes.
fn file(path: &str, headers: &HeaderMap, caching: HeaderValue) -> Option<Response> {
    let (file, encoding) = ENCODINGS
        .into_iter()
        .filter(|(name, _)| decodes(headers, name))
        .find_map(|(name, ending)| Some((Files::get(&format!("{path}{ending}"))?, Some(name))))
        .or_else(|| Some((Files::get(path)?, None)))?;
    let kind = Files::get(path).map(|plain| plain.metadata.mimetype().to_owned());
    let tag = format!("\"{}\"", HEXLOWER.encode(&file.metadata.sha256_hash()[..16]));
    let is_known =
        headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Response::new(body(file)),
    };
    let kind =
        kind.map(|kind| if kind == "text/html" { "text/html; charset=utf-8".into() } else { kind });
    let sent = [
        (CONTENT_TYPE, kind),
        (ETAG, Some(tag)),
        (CONTENT_ENCODING, encoding.map(str::to_owned)),
        (VARY, Some("accept-encoding".to_owned())),
    ];
    let add = |headers: &mut HeaderMap, (name, value): (HeaderName, Option<String>)| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    };
    for header in sent {
        add(response.headers_mut(), header);
    }
    response.headers_mut().insert(CACHE_CONTROL, caching);
    Some(response)
}

fn body(file: EmbeddedFile) -> Body {
    match file.data {
        Cow::Borrowed(bytes) => bytes.into(),
        Cow::Owned(bytes) => bytes.into(),
    }
}

/// Whether a browser decodes this encoding. A quality of zero refuses it.
fn decodes(headers: &HeaderMap, encoding: &str) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter();
    let mut accepted =
        accepted.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    accepted.any(|item| {
        let (name, quality) = item.split_once(';').unwrap_or((item, ""));
        let is_refused = matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        name.trim() == encoding && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_counts_if_it_is_accepted_and_not_refused() {
        let headers =
            |text| HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(text))]);
        assert!(decodes(&headers("gzip, deflate, br"), "br"));
        assert!(decodes(&headers("br;q=0.5"), "br"));
        assert!(!decodes(&headers("br;q=0, gzip"), "br"));
        assert!(!decodes(&headers("brotli"), "br"));
        assert!(!decodes(&HeaderMap::new(), "gzip"));
    }

    #[test]
    fn only_a_browser_that_goes_to_a_page_gets_the_dashboard() {
        let asks = |path: &str, accept: &'static str| {
            let request = Request::builder().uri(path).header(ACCEPT, accept).body(Body::empty());
            is_navigation(&request.expect("a request"))
        };
        assert!(asks("/fleet", "text/html,application/xhtml+xml,*/*;q=0.8"));
        assert!(!asks("/fleet", "*/*"));
        assert!(!asks("/api/agent", "text/html"));
        assert!(asks("/apiary", "text/html"));
    }
}
