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

#[tokio::test]
async fn bodies_too_deep_too_long_cut_off_or_not_utf8_are_refused_everywhere() {
    let fixture = Fixture::on_sqlite().await;
    let name = |value: &str| format!("{{\"name\":{value}}}").into_bytes();
    let deep =
        |open: &str, close: &str| name(&[open.repeat(10_000), close.repeat(10_000)].concat());
    let mut not_utf8 = name("\"x\"");
    not_utf8[9] = 0xff;
    let bodies = [
        (deep("[", "]"), 400),
        (deep("{\"a\":", "1}"), 400),
        (not_utf8, 400),
        (name("\"\\ud800\""), 400),
        (name("\"x")[..9].to_vec(), 400),
        (name("\"x\"}{"), 400),
        (name("1e999"), 400),
        (b"\xef\xbb\xbf{}".to_vec(), 400),
        (Vec::new(), 400),
        (name(&format!("\"{}\"", "x".repeat(32 * 1024 * 1024))), 413),
    ];
    for (method, path) in OPERATIONS {
        for (body, status) in &bodies {
            let sent =
                fixture.api.try_send(method.clone(), path, &[JSON], Some(body.clone())).await;
            let start = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            // The server may close a connection whose body it does not read, before all of it is sent.
            let Ok(answer) = sent else {
                assert_eq!(*status, 413, "{path} {start}");
                continue;
            };
            assert_eq!(answer.status, *status, "{path} {start}: {}", answer.json());
            let code = answer.json()["code"].clone();
            assert!(code == "malformed_json" || code == "body_too_large", "{path} {start}: {code}");
        }
    }
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
        assert!(answered.starts_with("HTTP/1.1 400"), "{head:?}: {answered}");
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
