//! The answer to a client whose source has too many connections.
//!
//! A part of the request is read before the connection is closed: unread bytes would reset the connection before
//! the client has read the answer.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// Written without reading the request.
const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\n\
    retry-after: 5\r\ncontent-length: 160\r\nconnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\
    \"code\":\"too_many_connections\",\"detail\":\"too many connections from this address; try again later\"}";
/// How long the client may take to read it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much of the request is read.
const REQUEST_BYTES: u64 = 64 * 1024;

/// Answers and closes.
pub(super) async fn refuse(mut stream: TcpStream, _slot: OwnedSemaphorePermit) {
    let answer = async {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(REQUEST_BYTES), &mut tokio::io::sink()).await
    };
    // The connection is closed in any case, also if the client does not read the answer.
    let _ = tokio::time::timeout(PATIENCE, answer).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = str::from_utf8(ANSWER).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
