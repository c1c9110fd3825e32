//! The TLS handshake of an accepted connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The answer to a client that does not use TLS.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    content-length: 48\r\nconnection: close\r\n\r\n\
    this port speaks TLS: use https:// (agents wss)\n";
/// How much of the request is read before the connection is closed; see [`super::refusal`].
const PLAIN_REQUEST_BYTES: u64 = 64 * 1024;

/// Why the handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the handshake took longer than {} ms", wait.as_millis())]
    Late { wait: Duration },
    #[error("the client does not speak TLS")]
    Plain,
    #[error("the handshake failed: {0}")]
    Failed(#[from] io::Error),
}

/// Secures a connection, within `wait`.
///
/// # Errors
/// [`HandshakeError`]; the connection is closed then.
pub(super) async fn secure(
    stream: TcpStream,
    settings: Arc<ServerConfig>,
    wait: Duration,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let shaking = async {
        let mut first = [0];
        stream.peek(&mut first).await?;
        // A method's first letter; a TLS handshake starts with 22.
        if first[0].is_ascii_uppercase() {
            refuse_plain_http(stream).await?;
            return Err(HandshakeError::Plain);
        }
        Ok(TlsAcceptor::from(settings).accept(stream).await?)
    };
    tokio::time::timeout(wait, shaking).await.unwrap_or(Err(HandshakeError::Late { wait }))
}

/// Answers a client that speaks plain HTTP with what to do.
async fn refuse_plain_http(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN_ANSWER).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(PLAIN_REQUEST_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_is_as_long_as_it_says() {
        let text = str::from_utf8(PLAIN_ANSWER).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
