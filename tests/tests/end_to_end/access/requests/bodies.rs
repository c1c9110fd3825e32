//! Bodies are read only from callers that may send them, and only so many at once.

use muster_tests::Fixture;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const MIB: usize = 1024 * 1024;

/// Sends the head of a request whose body is declared to have 1 MiB.
async fn begin(fixture: &Fixture, key: &str) -> TcpStream {
    let address = fixture.server.address();
    let mut stream = TcpStream::connect(&address).await.expect("reach the server");
    let head = format!(
        "POST /api/keys HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {MIB}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("send the head");
    stream
}

/// The answer, as far as it came at once.
async fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains("\"detail\"") {
        let read = stream.read_buf(&mut bytes).await.expect("an answer");
        assert!(read > 0, "no answer");
    }
    String::from_utf8_lossy(&bytes).to_ascii_lowercase()
}

#[tokio::test]
async fn body_of_a_caller_without_the_right_is_not_read() {
    let fixture = Fixture::on_sqlite().await;
    let narrow = json!({"name": "narrow", "role": "member", "scopes": ["agents:read"]});
    let narrow = fixture.api.post("/api/keys", narrow).await.expect(201);
    let key = narrow["key"].as_str().expect("a key");
    let refused = answer(begin(&fixture, key).await).await;
    assert!(refused.starts_with("http/1.1 403") && refused.contains("missing_scope"), "{refused}");
}

#[tokio::test]
async fn bodies_of_a_key_take_no_more_than_its_share_and_delay_no_other_key() {
    let fixture = Fixture::on_sqlite().await;
    let other = json!({"name": "other", "role": "owner"});
    let other = fixture.api.post("/api/keys", other).await.expect(201);
    // None of them ever sends its body.
    let mut answers = JoinSet::new();
    for _ in 0..8 {
        answers.spawn(answer(begin(&fixture, fixture.api.key()).await));
    }
    let refused = answers.join_next().await.expect("a request").expect("an answer");
    assert!(refused.starts_with("http/1.1 503") && refused.contains("server_busy"), "{refused}");
    assert!(refused.contains("retry-after"), "{refused}");
    let mut stream = begin(&fixture, other["key"].as_str().expect("a key")).await;
    stream.write_all(&vec![b' '; MIB]).await.expect("send the body");
    let read = answer(stream).await;
    assert!(read.starts_with("http/1.1 400") && read.contains("malformed_json"), "{read}");
    // Small bodies of the same key are read.
    fixture.api.post("/api/keys", json!({"name": "small"})).await.expect(201);
}
