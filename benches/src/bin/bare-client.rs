//! A client that only connects: the anchor of the agent's memory.
//!
//! Its arguments are the server's address and, for TLS, the file of the CA to trust.

use std::path::Path;

use futures_util::StreamExt as _;
use muster_benches::fleet::websocket_config;
use muster_benches::process::trusting;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(connect())
}

async fn connect() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_default();
    let stream = TcpStream::connect(&address).await?;
    match arguments.next() {
        None => listen(stream, &format!("ws://{address}/")).await,
        Some(authority) => {
            let tls = TlsConnector::from(trusting(Path::new(&authority))?);
            let name = ServerName::from(stream.peer_addr()?.ip());
            let stream = Box::pin(tls.connect(name, stream)).await?;
            Box::pin(listen(stream, &format!("wss://{address}/"))).await
        }
    }
}

async fn listen<S: AsyncRead + AsyncWrite + Unpin>(stream: S, url: &str) -> anyhow::Result<()> {
    let config = Some(websocket_config());
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(url, stream, config).await?;
    while let Some(message) = socket.next().await {
        message?;
    }
    Ok(())
}
