//! The tokens of a browser, in cookies that only this server sets and reads.
//!
//! A browser sends them with every request to this server, whichever page asks for it. So a request
//! that changes something counts only if a page of this server sent it.

use axum::http::header::{COOKIE, ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::AppState;
use super::origin::request_origin;
use super::problem::Problem;
use crate::domain::time::Timestamp;
use crate::services::access::people::oidc::OIDC_ATTEMPT_MS;
use crate::services::access::people::sign_in::SessionTokens;

/// The access token. `__Host-`: from this host, over TLS, and for all of its paths.
pub const ACCESS_COOKIE: &str = "__Host-muster_access";
/// The refresh token.
pub const REFRESH_COOKIE: &str = "__Host-muster_refresh";
/// A single sign-on that has begun.
pub const ATTEMPT_COOKIE: &str = "__Host-muster_sign_in";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| {
        let (known, value) = pair.split_once('=')?;
        (known.trim() == name).then_some(value.trim())
    });
    pairs.next().filter(|value| !value.is_empty())
}

/// Refuses a request that another site may have sent, or none that says where it is from.
///
/// # Errors
/// 403 `cross_origin`.
pub fn check_same_origin(parts: &Parts, state: &AppState) -> Result<(), Problem> {
    let text =
        |name: &HeaderName| parts.headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let (site, origin) = (text(&FETCH_SITE), text(&ORIGIN));
    let is_own_site = site.is_none_or(|site| site == "same-origin");
    let own = request_origin(parts, state);
    let is_own_origin =
        origin.is_none_or(|origin| own.as_ref().is_some_and(|own| own.is_origin(origin)));
    let is_named = site.is_some() || origin.is_some();
    match is_named && is_own_site && is_own_origin {
        true => Ok(()),
        false => Err(Problem::cross_origin()),
    }
}

/// Sets both cookies until their tokens expire.
pub fn set_tokens(headers: &mut HeaderMap, tokens: &SessionTokens, now: Timestamp) {
    let of = |name, value, until: Timestamp| set(name, value, until.ms_since(now) / 1_000);
    let access = of(ACCESS_COOKIE, &tokens.access_token, tokens.access_expires_at);
    let refresh = of(REFRESH_COOKIE, &tokens.refresh_token, tokens.refresh_expires_at);
    append(headers, [access, refresh]);
}

/// Deletes both cookies.
pub fn clear_tokens(headers: &mut HeaderMap) {
    append(headers, [set(ACCESS_COOKIE, "", 0), set(REFRESH_COOKIE, "", 0)]);
}

/// The cookie of a single sign-on that has begun. The provider sends the browser back from another site, so
/// it can't be `Strict`.
pub fn attempt_cookie(sealed: &str) -> Option<HeaderValue> {
    lax(sealed, OIDC_ATTEMPT_MS / 1_000)
}

/// Deletes it.
pub fn clear_attempt(headers: &mut HeaderMap) {
    append(headers, [lax("", 0), None]);
}

fn lax(value: &str, max_age_s: u64) -> Option<HeaderValue> {
    let text = format!(
        "{ATTEMPT_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={max_age_s}"
    );
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn append(headers: &mut HeaderMap, cookies: [Option<HeaderValue>; 2]) {
    for cookie in cookies.into_iter().flatten() {
        headers.append(SET_COOKIE, cookie);
    }
}

/// `None` cannot happen: tokens are visible ASCII.
fn set(name: &str, value: &str, max_age_s: u64) -> Option<HeaderValue> {
    let text =
        format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={max_age_s}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_an_empty_one_is_none() {
        let mut headers = HeaderMap::new();
        let add = |headers: &mut HeaderMap, text: &'static str| {
            headers.append(COOKIE, HeaderValue::from_static(text));
        };
        add(&mut headers, "a=b; __Host-muster_accessory=x");
        assert_eq!(cookie(&headers, ACCESS_COOKIE), None);
        add(&mut headers, "c; __Host-muster_access=token=1 ; d=e");
        assert_eq!(cookie(&headers, ACCESS_COOKIE), Some("token=1"));
        add(&mut headers, "__Host-muster_refresh=");
        assert_eq!(cookie(&headers, REFRESH_COOKIE), None);
    }
}
