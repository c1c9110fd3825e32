//! Browsers hold the tokens in cookies, which count only for pages of this server.

use muster_tests::{ApiResponse, Fixture, PASSWORD};
use reqwest::Method;
use serde_json::json;

/// A browser of the owner, with its cookies.
struct Browser<'a> {
    fixture: &'a Fixture,
    cookies: String,
}

impl Browser<'_> {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> ApiResponse {
        let mut headers = headers.to_vec();
        headers.push(("cookie", &self.cookies));
        let body = (method == Method::POST).then(|| b"{}".to_vec());
        let api = self.fixture.api.with_key("");
        api.try_send(method, path, &headers, body).await.expect("reach the server")
    }
}

/// The cookies that an answer sets, as a browser sends them.
fn cookies(answer: &ApiResponse) -> String {
    let set = answer.headers.get_all("set-cookie").iter();
    let pairs = set.map(|value| {
        let text = value.to_str().expect("text");
        for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(text.contains(attribute), "{text}");
        }
        text.split(';').next().expect("a pair").to_owned()
    });
    pairs.collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn cookie_counts_for_changes_only_from_pages_of_this_server() {
    let fixture = Fixture::on_sqlite().await;
    let owner = fixture.owner().await;
    let own = fixture.server.url();
    let body = json!({"email": owner.email, "password": PASSWORD, "cookies": true}).to_string();
    let login = async |headers: &[(&str, &str)]| {
        let (api, body) = (fixture.api.with_key(""), Some(body.clone().into_bytes()));
        let answer = api.try_send(Method::POST, "/api/auth/login", headers, body).await;
        answer.expect("reach the server")
    };
    let evil = "https://evil.example";
    let foreign: [&[(&str, &str)]; 6] = [
        &[],
        &[("origin", evil)],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", &own)],
        &[("sec-fetch-site", "same-origin"), ("origin", evil)],
    ];
    for headers in foreign {
        login(headers).await.expect_problem(403, "cross_origin");
    }
    let answer = login(&[("sec-fetch-site", "same-origin"), ("origin", &own)]).await;
    let browser = Browser { fixture: &fixture, cookies: cookies(&answer) };
    assert_eq!(browser.cookies.matches("__Host-muster_").count(), 2, "{}", browser.cookies);
    assert_eq!(answer.header("cache-control"), "no-store");
    let shown = answer.expect(200).to_string();
    assert!(!shown.contains("_token"), "a page can read a token: {shown}");

    browser.send(Method::GET, "/api/agents", &[]).await.expect(200);
    browser.send(Method::GET, "/api/agents", &[("origin", evil)]).await.expect(200);
    for headers in foreign {
        let refused = browser.send(Method::POST, "/api/targets/preview", headers).await;
        refused.expect_problem(403, "cross_origin");
        let refused = browser.send(Method::POST, "/api/auth/refresh", headers).await;
        refused.expect_problem(403, "cross_origin");
    }
    let same: [&[(&str, &str)]; 2] = [&[("sec-fetch-site", "same-origin")], &[("origin", &own)]];
    for headers in same {
        // It is heard, and its body is invalid.
        browser.send(Method::POST, "/api/targets/preview", headers).await.expect(422);
    }
    // A header for a credential is never replaced by the cookie.
    let page = ("sec-fetch-site", "same-origin");
    for header in [("authorization", "Basic YTpi"), ("authorization", ""), ("x-api-key", "x")] {
        browser.send(Method::GET, "/api/agents", &[page, header]).await.expect(401);
    }

    let refreshed = browser.send(Method::POST, "/api/auth/refresh", &[page]).await;
    let next = Browser { fixture: &fixture, cookies: cookies(&refreshed) };
    assert!(!refreshed.expect(200).to_string().contains("_token"));
    assert_ne!(next.cookies, browser.cookies);
    let out = next.send(Method::POST, "/api/auth/logout", &[page]).await;
    assert_eq!(cookies(&out), "__Host-muster_access=; __Host-muster_refresh=");
    out.expect(204);
    next.send(Method::GET, "/api/agents", &[]).await.expect_problem(401, "session_ended");
    // Other sessions of the person stay.
    owner.api.get("/api/agents").await.expect(200);
}
