//! Examples of single sign-on, with a provider of this run.

use muster_tests::{
    ATTEMPT_COOKIE, CLIENT_ID, CLIENT_SECRET, Fixture, IdentityProvider, JsonFields as _,
    ServerOptions, begin, come_back, cookie_of,
};
use reqwest::{Method, Url};
use serde_json::json;

use super::Recorder;

/// Options of a server with this provider, named `corp`.
pub fn options(provider: &IdentityProvider, folder: &std::path::Path) -> ServerOptions {
    let secret = folder.join("secret");
    std::fs::write(&secret, CLIENT_SECRET).expect("write the secret");
    let text = format!(
        "[[oidc_provider]]\nname = \"corp\"\ntitle = \"Corporation\"\nissuer = \"{}\"\n\
         client_id = \"{CLIENT_ID}\"\nclient_secret_file = \"{}\"\nallow_private = true\n",
        provider.url(),
        secret.display()
    );
    let file = folder.join("settings.toml");
    std::fs::write(&file, text).expect("write the settings");
    ServerOptions::default().with("MUSTER_CONFIG", file.display())
}

/// Links a person of the provider to the account of this key, and looks at what it has then.
pub async fn identities(run: &mut Recorder<'_>, provider: &IdentityProvider, key: &str) {
    let fixture = run.fixture;
    let started = begin(fixture, "?return_to=/agents").await;
    let query = json!({"return_to": "/agents"});
    redirection(run, "start_single_sign_on", query, &shown(&started.location));
    let body = json!({"return_to": "/account"});
    let link = fixture.api.with_key(key);
    let answer = link.post("/api/auth/oidc/corp/link", body.clone()).await;
    let cookie = cookie_of(&answer, ATTEMPT_COOKIE).expect("a cookie");
    let location = answer.expect(200).text("authorization_url").to_owned();
    run.examples.insert(
        "link_identity".to_owned(),
        json!({"status": "200", "content_type": "application/json", "request": body,
            "response": {"authorization_url": shown(&location)}}),
    );
    complete(run, provider, fixture, (&cookie, &location)).await;
    let listed = run.call_with(key, Method::GET, "/api/me/identities", None).await;
    let path = format!("/api/me/identities/{{id={}}}", listed["items"][0].id());
    run.call_with(key, Method::DELETE, &path, None).await;
}

async fn complete(
    run: &mut Recorder<'_>,
    provider: &IdentityProvider,
    fixture: &Fixture,
    (cookie, location): (&str, &str),
) {
    let (code, query) = provider.authorize(location);
    let answer = come_back(fixture, cookie, &[("code", &code), ("state", &query["state"])]).await;
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.bytes));
    let query = json!({"code": "SplxlOBeZQQYbYS6WxSbIA", "state": "af0ifjsldkj"});
    redirection(run, "complete_single_sign_on", query, answer.header("location"));
}

fn redirection(run: &mut Recorder<'_>, name: &str, query: serde_json::Value, location: &str) {
    let example = json!({"status": "303", "content_type": "", "query": query,
        "location": location});
    run.examples.insert(name.to_owned(), example);
}

/// The address of a provider, with the same values in every run.
fn shown(location: &str) -> String {
    let location = Url::parse(location).expect("an address");
    let pairs = location.query_pairs().map(|(name, value)| {
        let value = match &*name {
            "code_challenge" => "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned(),
            "nonce" => "n-0S6_WzA2Mj".to_owned(),
            "redirect_uri" => "https://muster.example/api/auth/oidc/corp/callback".to_owned(),
            "state" => "af0ifjsldkj".to_owned(),
            _ => value.into_owned(),
        };
        (name.into_owned(), value)
    });
    let mut shown = Url::parse("https://sso.example").expect("an address");
    shown.set_path(location.path());
    shown.query_pairs_mut().extend_pairs(pairs);
    shown.to_string()
}
