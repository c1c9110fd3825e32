//! One keep-alive HTTP/1.1 connection.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An encoded request.
#[derive(Debug, Clone)]
pub struct Request(Vec<u8>);

impl Request {
    pub fn new(method: &str, path: &str, key: Option<&str>, body: Option<&str>) -> Self {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\n");
        if let Some(key) = key {
            text += &format!("authorization: Bearer {key}\r\n");
        }
        if body.is_some() {
            text += "content-type: application/json\r\n";
        }
        let body = body.unwrap_or_default();
        text += &format!("content-length: {}\r\n\r\n{body}", body.len());
        Self(text.into_bytes())
    }
}

/// A connection with at most one request in flight.
pub struct Connection<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
    /// The range of the last response's body.
    body: std::ops::Range<usize>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Uses an open stream.
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(16 * 1024), body: 0..0 }
    }

    /// Sends a request and reads the whole response; returns its status.
    pub async fn send(&mut self, request: &Request) -> Result<u16> {
        self.stream.write_all(&request.0).await.context("send a request")?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await.context("read an answer")? == 0 {
                bail!("the server hung up");
            }
            let Some(head) = find(&self.buffer, b"\r\n\r\n") else { continue };
            let start = head + 4;
            let end = start + content_length(&self.buffer[..head])?;
            while self.buffer.len() < end {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    bail!("the server hung up");
                }
            }
            self.body = start..end;
            let status = self.buffer.get(9..12).and_then(|text| str::from_utf8(text).ok());
            return status.and_then(|text| text.parse().ok()).context("read a status");
        }
    }

    /// The body of the last response.
    pub fn body(&self) -> &[u8] {
        &self.buffer[self.body.clone()]
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body()).into_owned()
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let Some(at) = find(head, NAME) else { return Ok(0) };
    let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}
