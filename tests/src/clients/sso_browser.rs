//! A browser on its way through single sign-on.

use std::collections::HashMap;

use reqwest::Method;
use reqwest::redirect::Policy;

use crate::clients::api::{Api, ApiResponse};
use crate::fixture::Fixture;
use crate::servers::identity_provider::IdentityProvider;

/// The cookie of a sign-in that has begun.
pub const ATTEMPT_COOKIE: &str = "__Host-muster_sign_in";

/// A sign-in that has begun.
#[derive(Debug, Clone)]
pub struct BegunSignIn {
    /// Where the browser is sent.
    pub location: String,
    /// What it keeps.
    pub cookie: String,
}

/// One request of a browser, which follows no redirect.
pub async fn browse(url: &str, cookie: &str) -> ApiResponse {
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build();
    let client = client.expect("make a client");
    let response = client.request(Method::GET, url).header("cookie", cookie).send().await;
    let response = response.expect("reach the server");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.expect("a body").to_vec();
    ApiResponse { status, headers, bytes }
}

/// The pair of a cookie that an answer sets.
pub fn cookie_of(answer: &ApiResponse, name: &str) -> Option<String> {
    let set = answer.headers.get_all("set-cookie").iter();
    let pairs = set.filter_map(|value| value.to_str().ok()?.split(';').next().map(str::to_owned));
    pairs.into_iter().find(|pair| pair.split('=').next() == Some(name))
}

/// Begins to sign in with the provider `corp`.
pub async fn begin(fixture: &Fixture, query: &str) -> BegunSignIn {
    begin_with(fixture, "corp", query).await
}

/// Begins to sign in with the provider of this name.
pub async fn begin_with(fixture: &Fixture, name: &str, query: &str) -> BegunSignIn {
    let url = format!("{}/api/auth/oidc/{name}/start{query}", fixture.server.url());
    let answer = browse(&url, "").await;
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.bytes));
    let cookie = cookie_of(&answer, ATTEMPT_COOKIE).expect("a cookie");
    BegunSignIn { location: answer.header("location").to_owned(), cookie }
}

/// Comes back from the provider.
pub async fn come_back(fixture: &Fixture, cookie: &str, query: &[(&str, &str)]) -> ApiResponse {
    come_back_from(fixture, "corp", cookie, query).await
}

/// Comes back from the provider of this name.
pub async fn come_back_from(
    fixture: &Fixture,
    name: &str,
    cookie: &str,
    query: &[(&str, &str)],
) -> ApiResponse {
    let url = format!("{}/api/auth/oidc/{name}/callback", fixture.server.url());
    let url = reqwest::Url::parse_with_params(&url, query).expect("an address");
    browse(url.as_str(), cookie).await
}

/// The complete sign-in of a person of the provider.
pub async fn single_sign_on(fixture: &Fixture, provider: &IdentityProvider) -> ApiResponse {
    single_sign_on_with(fixture, "corp", provider).await
}

/// The complete sign-in of a person of the provider of this name.
pub async fn single_sign_on_with(
    fixture: &Fixture,
    name: &str,
    provider: &IdentityProvider,
) -> ApiResponse {
    let begun = begin_with(fixture, name, "").await;
    let (code, query): (String, HashMap<String, String>) = provider.authorize(&begun.location);
    let brought = [("code", code.as_str()), ("state", &query["state"])];
    come_back_from(fixture, name, &begun.cookie, &brought).await
}

/// A client with the access token that a sign-in set as a cookie.
pub fn signed_in(fixture: &Fixture, answer: &ApiResponse) -> Api {
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.bytes));
    let pair = cookie_of(answer, "__Host-muster_access").expect("an access token");
    let token = pair.split_once('=').expect("a pair").1.to_owned();
    fixture.api.with_key(&token)
}
