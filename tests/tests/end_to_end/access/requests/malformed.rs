//! Requests that no client of Muster sends: bodies that are too deep, too long or no text, and heads that two
//! programs would read differently.

use muster_tests::{Fixture, JsonFields as _};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Operations that read a body without and with a credential.
const OPERATIONS: [(Method, &str); 4] = [
    (Method::POST, "/api/auth/login"),
    (Method::POST, "/api/keys"),
    (Method::POST, "/api/jobs"),
    (Method::PATCH, "/api/tenant"),
];

fn deep_value() -> String {
    [r#"{"a":"#.repeat(10_000), "1".to_owned(), "}".repeat(10_000)].concat()
}

#[tokio::test]
async fn bodies_too_deep_too_long_cut_off_or_not_utf8_are_refused_everywhere() {
    let fixture = Fixture::on_sqlite().await;
    let name = |value: &str| format!("{{\"name\":{value}}}").into_bytes();
    let deep =
        |open: &str, close: &str| name(&[open.repeat(10_000), close.repeat(10_000)].concat());
    let mut not_utf8 = name("\"x\"");
    not_utf8[9] = 0xff;
    let bodies = [
        deep("[", "]"),
        deep("{\"a\":", "1}"),
        not_utf8,
        name("\"\\ud800\""),
        name("\"x")[..9].to_vec(),
        name("\"x\"}{"),
        name("1e999"),
        b"\xef\xbb\xbf{}".to_vec(),
    ];
    let long = name(&format!("\"{}\"", "x".repeat(32 * 1024 * 1024)));
    for (method, path) in OPERATIONS {
        for body in &bodies {
            let sent =
                fixture.api.try_send(method.clone(), path, &[JSON], Some(body.clone())).await;
            let answer = sent.expect("an answer");
            let start = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            let code = answer.json()["code"].clone();
            let is_refused = match answer.status {
                400 => code == "malformed_json",
                // A wrong field stands before the rest of the text.
                422 => code == "invalid_body" || code == "invalid_field",
                _ => false,
            };
            assert!(is_refused, "{path} {start}: {}", answer.json());
        }
        // The server may close a connection whose body it does not read, before all of it is sent.
        let sent = fixture.api.try_send(method, path, &[JSON], Some(long.clone())).await;
        if let Ok(answer) = sent {
            answer.expect_problem(413, "body_too_large");
        }
    }
    // A field that may hold any JSON.
    let body = format!("{{\"target\":{{}},\"parameters\":{}}}", deep_value());
    let path = "/api/jobs";
    let sent = fixture.api.try_send(Method::POST, path, &[JSON], Some(body.into_bytes())).await;
    sent.expect("an answer").expect_problem(400, "malformed_json");
    // The server works, and nothing of it was stored.
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM jobs"), ["0"]);
    fixture.api.post("/api/keys", json!({"name": "after"})).await.expect(201);
}

/// Sends bytes on a connection of their own, and returns everything that the server answers until it closes
/// the connection, which the last request of `bytes` asks for.
async fn answers(fixture: &Fixture, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(fixture.server.address()).await.expect("reach the server");
    stream.write_all(bytes).await.expect("send");
    let mut answers = Vec::new();
    // A connection that is reset has no more answers.
    let _ = stream.read_to_end(&mut answers).await;
    String::from_utf8_lossy(&answers).into_owned()
}

/// The second request of each, which a proxy could take for a body, must never be answered; nor must a request
/// be accepted whose end two programs could see at different places.
#[tokio::test]
async fn heads_that_two_programs_would_read_differently_are_refused() {
    let fixture = Fixture::on_sqlite().await;
    let body = json!({"name": "smuggled"}).to_string();
    let (key, length) = (fixture.api.key(), body.len());
    let inner = format!(
        "POST /api/keys HTTP/1.1\r\nhost: one\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let plain = answers(&fixture, inner.as_bytes()).await;
    assert!(plain.starts_with("HTTP/1.1 201"), "{plain}");
    let inner_length = inner.len();
    for head in [
        // Two lengths, and lengths that are no plain number.
        format!("content-length: 0\r\ncontent-length: {inner_length}"),
        format!("content-length: 0, {inner_length}"),
        "content-length: +0".to_owned(),
        "content-length: -1".to_owned(),
        "content-length: 0x0".to_owned(),
        "content-length: 18446744073709551616".to_owned(),
        // A length beside an encoding, in both orders.
        "content-length: 0\r\ntransfer-encoding: chunked".to_owned(),
        "transfer-encoding: chunked\r\ncontent-length: 0".to_owned(),
        // Encodings that only some programs take for `chunked`.
        "transfer-encoding: xchunked".to_owned(),
        "transfer-encoding: chunked, identity".to_owned(),
        "transfer-encoding: identity".to_owned(),
        "transfer-encoding : chunked".to_owned(),
        " transfer-encoding: chunked".to_owned(),
        "x: y\r\n transfer-encoding: chunked".to_owned(),
        "transfer-encoding:\u{b}chunked".to_owned(),
        "transfer-encoding: \0chunked".to_owned(),
        "x: y\rtransfer-encoding: chunked".to_owned(),
        "no colon".to_owned(),
    ] {
        let outer = format!(
            "POST /api/auth/login HTTP/1.1\r\nhost: one\r\ncontent-type: application/json\r\n{head}\r\n\r\n"
        );
        // What follows a wrong chunked body is that request, too.
        let answered = answers(&fixture, format!("{outer}0\r\n\r\n{inner}").as_bytes()).await;
        // With an encoding the length does not count. Login refuses the empty body.
        let has_both = head.starts_with("content-length: 0\r\nt") || head.ends_with("h: 0");
        let status = if has_both { "HTTP/1.1 422" } else { "HTTP/1.1 400" };
        assert!(answered.starts_with(status), "{head:?}: {answered}");
        assert_eq!(answered.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answered}");
    }
    let keys = fixture.api.get("/api/keys?limit=500").await.expect(200);
    let smuggled = keys.list("items").iter().filter(|key| key["name"] == "smuggled").count();
    assert_eq!(smuggled, 1, "the plain one");
}

/// A proxy could have checked the other one.
#[tokio::test]
async fn request_with_two_credentials_of_a_kind_has_none() {
    let fixture = Fixture::on_sqlite().await;
    let key = fixture.api.key();
    for headers in [
        format!("authorization: Bearer {key}\r\nauthorization: Bearer other"),
        format!("authorization: Bearer other\r\nauthorization: Bearer {key}"),
        format!("x-api-key: {key}\r\nx-api-key: other"),
        format!("x-api-key: other\r\nx-api-key: {key}"),
        // The bearer token alone is tried if there are both kinds.
        format!("authorization: Bearer other\r\nx-api-key: {key}"),
    ] {
        let request = format!(
            "GET /api/agents HTTP/1.1\r\nhost: one\r\nconnection: close\r\n{headers}\r\n\r\n"
        );
        let answered = answers(&fixture, request.as_bytes()).await;
        assert!(answered.starts_with("HTTP/1.1 401"), "{headers}: {answered}");
    }
}
