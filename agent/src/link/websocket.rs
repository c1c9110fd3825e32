//! The default link: a WebSocket.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use muster_protocol::limits::MAX_FRAME_BYTES;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, USER_AGENT};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::socket::MAX_UNSENT_BYTES;
use super::{
    Connector, Incoming, Link, LinkError, Outgoing, PathLimits, Progress, Socket, WEBSOCKET_UPGRADE,
};

/// Time limit for name resolution, TCP, proxy, TLS and the upgrade together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Most links are idle: small buffers, which grow on use.
const BUFFER_BYTES: usize = 4 * 1024;
/// A text up to this size is sent at once on any link.
const SMALL_TEXT_BYTES: usize = 8 * 1024;
/// 16 kbit/s, the slowest link that a session is kept on.
const SLOWEST_BYTES_PER_MS: u64 = 2;

/// An open WebSocket.
pub struct WebSocket {
    stream: WebSocketStream<Box<dyn Socket>>,
    progress: Progress,
    limits: PathLimits,
    pinged_at: Instant,
    /// Until then the system may still send a large text that it has accepted.
    draining_until: Instant,
    /// Read from the stream before the session started.
    first: Option<Incoming>,
}

impl WebSocket {
    /// Opens a WebSocket and presents the key in a header.
    ///
    /// # Errors
    /// [`LinkError`] if the server can't be reached or refuses the upgrade.
    pub async fn open(connector: &Connector, key: &SecretString) -> Result<Self, LinkError> {
        let opening = Self::open_without_timeout(connector, key);
        timeout(OPEN_TIMEOUT, opening)
            .await
            .unwrap_or(Err(LinkError::TimedOut("open the WebSocket")))
    }

    /// Opens a WebSocket and waits for the server's first frame: a WebSocket that carries no
    /// frames, or is refused, is not usable.
    ///
    /// # Errors
    /// As [`WebSocket::open`], and [`LinkError::Closed`] if the server closes at once.
    pub async fn probe(connector: &Connector, key: &SecretString) -> Result<Self, LinkError> {
        let mut link = Self::open(connector, key).await?;
        let first = timeout(OPEN_TIMEOUT, link.receive())
            .await
            .unwrap_or(Err(LinkError::TimedOut("send its first frame over the WebSocket")))?;
        if let Incoming::Closed { code, reason } = first {
            return Err(LinkError::Closed { code, reason });
        }
        link.first = Some(first);
        Ok(link)
    }

    async fn open_without_timeout(
        connector: &Connector,
        key: &SecretString,
    ) -> Result<Self, LinkError> {
        let progress = Progress::default();
        let socket = connector.connect_metered(&progress).await?;
        let mut request = connector
            .endpoint
            .websocket_url()
            .into_client_request()
            .map_err(LinkError::broken("build the upgrade request"))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(LinkError::broken("build the upgrade request"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let agent = HeaderValue::from_static(super::USER_AGENT);
        request.headers_mut().insert(USER_AGENT, agent);
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(8 * MAX_FRAME_BYTES)
            .max_message_size(Some(2 * MAX_FRAME_BYTES))
            .max_frame_size(Some(2 * MAX_FRAME_BYTES));
        match tokio_tungstenite::client_async_with_config(request, socket, Some(config)).await {
            Ok((stream, _)) => {
                let (limits, pinged_at) = (connector.limits.clone(), Instant::now());
                let draining_until = pinged_at;
                Ok(Self { stream, progress, limits, pinged_at, draining_until, first: None })
            }
            Err(Error::Http(answer)) => Err(LinkError::Refused {
                action: WEBSOCKET_UPGRADE,
                status: answer.status().as_u16(),
                problem: String::new(),
            }),
            Err(error) => Err(LinkError::broken("upgrade to a WebSocket")(error)),
        }
    }

    async fn next(&mut self) -> Result<Incoming, LinkError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        loop {
            let Some(next) = self.next_message().await else { continue };
            return match next {
                Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text.as_str().to_owned())),
                Some(Ok(Message::Binary(_))) => Ok(Incoming::Binary),
                Some(Ok(Message::Close(Some(frame)))) => Ok(Incoming::Closed {
                    code: frame.code.into(),
                    reason: frame.reason.as_str().to_owned(),
                }),
                Some(Ok(Message::Close(None))) => {
                    Ok(Incoming::Closed { code: 1005, reason: String::new() })
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => {
                    self.limits.cut_after(self.quiet_since().elapsed());
                    Err(LinkError::broken("read from the WebSocket")(error))
                }
                None => Err(LinkError::Ended),
            };
        }
    }

    /// Waits for a message. `None` after a ping: something on the way cuts quiet connections.
    async fn next_message(&mut self) -> Option<Option<Result<Message, Error>>> {
        let Some(interval) = self.limits.keep_alive_interval() else {
            return Some(self.stream.next().await);
        };
        let ping_at = self.quiet_since() + interval;
        if let Ok(next) = timeout_at(ping_at, self.stream.next()).await {
            return Some(next);
        }
        self.pinged_at = Instant::now();
        // If it fails, so does the next read.
        let _ = timeout(CLOSE_TIMEOUT, self.stream.send(Message::Ping(Vec::new().into()))).await;
        None
    }

    /// How long the system may send a frame after it has accepted it, if that is long.
    fn drain_time(frame: &Outgoing) -> Duration {
        match frame {
            Outgoing::Text(text) if text.len() > SMALL_TEXT_BYTES => {
                let bytes = text.len().min(MAX_UNSENT_BYTES as usize);
                Duration::from_millis(bytes as u64 / SLOWEST_BYTES_PER_MS)
            }
            // Output is acknowledged, and cut to what the link carries in a second.
            Outgoing::Text(_) | Outgoing::Binary(_) => Duration::ZERO,
        }
    }

    fn quiet_since(&self) -> Instant {
        self.progress.last_at().max(self.pinged_at)
    }
}

impl Link for WebSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn send(&mut self, frame: Outgoing) -> BoxFuture<'_, Result<(), LinkError>> {
        let drain_time = Self::drain_time(&frame);
        let message = match frame {
            Outgoing::Text(text) => Message::text(text),
            Outgoing::Binary(bytes) => Message::binary(bytes),
        };
        let (stream, draining_until) = (&mut self.stream, &mut self.draining_until);
        async move {
            stream.send(message).await.map_err(LinkError::broken("write to the WebSocket"))?;
            *draining_until = (*draining_until).max(Instant::now() + drain_time);
            Ok(())
        }
        .boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Result<Incoming, LinkError>> {
        self.next().boxed()
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn silence(&self) -> Duration {
        self.progress.last_at().max(self.draining_until).elapsed()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        async {
            let goodbye = async {
                // The stream ends once the server has answered the close.
                if self.stream.close(None).await.is_ok() {
                    while let Some(Ok(_)) = self.stream.next().await {}
                }
            };
            let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
        }
        .boxed()
    }
}
