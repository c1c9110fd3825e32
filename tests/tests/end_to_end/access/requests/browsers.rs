//! What other sites can make a browser do, and what a browser does with answers.

use muster_tests::{
    Authority, Database, Fixture, JsonFields as _, ServerOptions, TestDir, on_both_databases,
};
use reqwest::{Client, Method, Response};

on_both_databases!(
    only_json_bodies_change_something,
    every_answer_forbids_frames_scripts_and_guesses_of_its_type,
    a_request_has_one_id_in_its_answer_and_its_problem,
);

async fn send(fixture: &Fixture, method: Method, path: &str, kind: &str, body: &str) -> Response {
    let client = Client::builder().no_proxy().build().expect("make a client");
    let request = client.request(method, format!("{}{path}", fixture.server.url()));
    let request = request.bearer_auth(fixture.api.key()).body(body.to_owned());
    let request = if kind.is_empty() { request } else { request.header("content-type", kind) };
    request.send().await.expect("reach the server")
}

async fn only_json_bodies_change_something(fixture: Fixture) {
    let created = async || {
        let page = fixture.api.get("/api/keys").await.expect(200);
        page.list("items").len()
    };
    let known = created().await;
    let key = r#"{"name": "forged", "role": "owner"}"#;
    for kind in [
        "text/plain",
        "text/plain; charset=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/json-patch+json",
        "application/jsonx",
        "",
    ] {
        for path in ["/api/keys", "/api/agents/keys", "/api/jobs", "/api/targets/preview"] {
            let answer = send(&fixture, Method::POST, path, kind, key).await;
            assert_eq!(answer.status().as_u16(), 415, "{path} with {kind:?}");
        }
        if kind.is_empty() {
            continue;
        }
        // A form without fields is a form too.
        let path = "/api/webhooks/secret/rotate";
        let answer = send(&fixture, Method::POST, path, kind, "").await;
        assert_eq!(answer.status().as_u16(), 415, "{path} with an empty {kind:?}");
    }
    assert_eq!(created().await, known, "a refused request created a key");
    for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON;a=b"] {
        let answer = send(&fixture, Method::POST, "/api/keys", kind, key).await;
        assert_eq!(answer.status().as_u16(), 201, "{kind}");
    }
}

async fn every_answer_forbids_frames_scripts_and_guesses_of_its_type(fixture: Fixture) {
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/docs/"),
        (Method::GET, "/docs/swagger-ui-bundle.js"),
        (Method::GET, "/openapi.json"),
        (Method::GET, "/install"),
        (Method::GET, "/install/deploy.sh"),
        (Method::GET, "/healthz"),
        (Method::GET, "/metrics"),
        (Method::GET, "/api/agents"),
        (Method::GET, "/api/agents?limit=0"),
        (Method::GET, "/api/nothing"),
        (Method::PUT, "/api/agents"),
        (Method::POST, "/api/keys"),
        (Method::GET, "/ws/agent"),
    ] {
        let answer = send(&fixture, method, path, "", "").await;
        let header = |name: &str| {
            let value = answer.headers().get(name).map(|value| value.to_str().expect("text"));
            value.unwrap_or_else(|| panic!("{path} has no {name}")).to_owned()
        };
        let policy = header("content-security-policy");
        for rule in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("script-src 'unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
    }
}

#[tokio::test]
async fn browsers_stay_with_tls_if_the_server_ends_it_itself() {
    const HEADER: &str = "strict-transport-security";
    let plain = Fixture::on_sqlite().await;
    let answer = send(&plain, Method::GET, "/healthz", "", "").await;
    assert!(
        !answer.headers().contains_key(HEADER),
        "browsers ignore it there, and a proxy adds its own"
    );
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let options = ServerOptions::secured(&authority);
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    for path in ["/healthz", "/api/agents", "/api/agents?limit=0", "/api/nothing", "/docs/"] {
        let answer = fixture.api.get(path).await;
        assert_eq!(answer.header(HEADER), "max-age=31536000", "{path}");
    }
}

async fn a_request_has_one_id_in_its_answer_and_its_problem(fixture: Fixture) {
    let client = Client::builder().no_proxy().build().expect("make a client");
    let ask = async |ids: &[&str]| {
        let url = format!("{}/api/agents?limit=0", fixture.server.url());
        let mut request = client.get(url).bearer_auth(fixture.api.key());
        for id in ids {
            request = request.header("x-request-id", id.as_bytes());
        }
        let answer = request.send().await.expect("reach the server");
        let id = answer.headers()["x-request-id"].to_str().expect("text").to_owned();
        let problem: serde_json::Value = answer.json().await.expect("a problem");
        assert_eq!(problem["request_id"], id.as_str(), "{problem}");
        assert_eq!(problem["code"], "invalid_field");
        id
    };
    let longest = "x".repeat(64);
    for id in ["ticket-7", "a.B_c", longest.as_str()] {
        assert_eq!(ask(&[id]).await, id);
    }
    let too_long = "x".repeat(65);
    let mut made = std::collections::BTreeSet::new();
    for ids in [
        &[][..],
        &[""],
        &["a b"],
        &["a\"b"],
        &["<script>"],
        &["\u{e9}"],
        &["a", "b"],
        &[too_long.as_str()],
    ] {
        let id = ask(ids).await;
        assert!(uuid::Uuid::parse_str(&id).is_ok(), "{ids:?}: {id}");
        assert!(made.insert(id), "each request has its own");
    }
}

#[tokio::test]
async fn the_documentation_needs_nothing_that_its_policy_forbids() {
    let fixture = Fixture::with(ServerOptions::default()).await;
    let answer = send(&fixture, Method::GET, "/docs/", "", "").await;
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("script-src 'self'") && policy.contains("style-src 'self'"));
    assert!(policy.contains("connect-src 'self'") && policy.contains("img-src 'self' data:"));
    let page = answer.text().await.expect("a page");
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"));
    let mut scripts = 0;
    for tag in page.split("<script").skip(1) {
        let (tag, inside) = tag.split_once('>').expect("a tag");
        let source = tag.split("src=\"./").nth(1).expect("no inline script");
        let source = source.split('"').next().expect("a name");
        assert!(inside.trim_start().starts_with("</script>"), "an inline script: {inside}");
        let script = send(&fixture, Method::GET, &format!("/docs/{source}"), "", "").await;
        assert_eq!(script.status().as_u16(), 200, "{source}");
        // With `nosniff` a browser runs no other type.
        let kind = script.headers()["content-type"].to_str().expect("text").to_owned();
        assert!(kind.starts_with("text/javascript"), "{source}: {kind}");
        scripts += 1;
    }
    assert_eq!(scripts, 3);
    let initializer = send(&fixture, Method::GET, "/docs/swagger-initializer.js", "", "").await;
    assert!(initializer.text().await.expect("a script").contains("/openapi.json"));
}
