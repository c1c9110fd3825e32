//! Headers of every answer that limit what a browser does with it.

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

/// For answers that load nothing. Pages that do set their own policy.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// For the API's documentation: its scripts and styles are files of this server, none is inline.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const OTHERS: [(HeaderName, HeaderValue); 3] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// For a year, browsers use this server by TLS only. Not for subdomains, which may be other servers.
const TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds the headers to an answer. `is_secure`: this server ends TLS itself; behind a proxy that does, the
/// proxy adds the last one.
pub(super) async fn add(State(is_secure): State<bool>, request: Request, next: Next) -> Response {
    let is_docs = request.uri().path().starts_with("/docs");
    let is_api = request.uri().path().starts_with("/api/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(if is_docs { DOCS_POLICY } else { POLICY });
    for (name, value) in OTHERS {
        headers.insert(name, value);
    }
    if is_api {
        // Cookies authenticate too: neither a browser nor a proxy may keep an answer for the next person.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    if is_secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, TRANSPORT);
    }
    response
}
