//! One agent's connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Source addresses of the agents: one address has about 28,000 ports per server.
const ADDRESSES: usize = 8;
const BUFFER_BYTES: usize = 4 * 1024;

/// Small buffers, like the real agent's and server's.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES)
}

/// A stream below a WebSocket.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open WebSocket.
pub struct Socket(WebSocketStream<Box<dyn Wire>>);

impl Socket {
    /// Connects from the source address of this agent.
    pub async fn open(
        server: SocketAddr,
        index: usize,
        key: Option<&str>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self> {
        let tcp = TcpSocket::new_v4()?;
        if server.ip().is_loopback() {
            let source = Ipv4Addr::new(127, 0, 0, 1 + (index % ADDRESSES) as u8);
            tcp.set_reuseaddr(true)?;
            tcp.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        }
        let stream = tcp.connect(server).await.context("connect")?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{server}/ws/agent").into_client_request()?;
        if let Some(key) = key {
            let value = format!("Bearer {key}").parse().context("form the upgrade request")?;
            request.headers_mut().insert("authorization", value);
        }
        let stream: Box<dyn Wire> = match tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::from(server.ip());
                Box::new(TlsConnector::from(config).connect(name, stream).await.context("secure")?)
            }
        };
        let config = Some(websocket_config());
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(request, stream, config).await?;
        Ok(Self(socket))
    }

    /// The next text. Cancel-safe.
    pub async fn next(&mut self) -> Result<Utf8Bytes> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(why))) => bail!("closed: {why:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the connection ended"),
            }
        }
    }

    /// Queues a frame for the next flush.
    pub async fn feed(&mut self, text: String) -> Result<()> {
        Ok(self.0.feed(Message::text(text)).await?)
    }

    pub async fn flush(&mut self) -> Result<()> {
        Ok(self.0.flush().await?)
    }
}
