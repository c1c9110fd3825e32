//! `muster-anchor`: servers that only move bytes, as anchors of figures.
//!
//! It prints its address and serves until it is killed. A certificate and key as further arguments
//! make `websocket` serve over TLS.

use std::path::PathBuf;

use anyhow::bail;
use axum::Router;
use axum::http::header;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use futures_util::{SinkExt as _, StreamExt as _};
use muster_benches::fleet::websocket_config;
use muster_benches::process::TlsCertificate;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

/// The size of a heartbeat's acknowledgement.
const ANSWER: &str = r#"{"type":"heartbeat_ack","timestamp":"2026-01-01T00:00:00.000000Z"}"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    match std::env::args().nth(1).as_deref() {
        Some("axum") => posts(listener).await,
        Some("websocket") => sockets(listener, pair()).await,
        _ => bail!("say `axum` or `websocket`"),
    }
}

/// Reads a body and responds.
async fn posts(listener: TcpListener) -> anyhow::Result<()> {
    let answer =
        async |_body: axum::body::Bytes| ([(header::CONTENT_TYPE, "application/json")], ANSWER);
    let app = Router::new().route("/", post(answer));
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

/// Echoes every text.
async fn sockets(listener: TcpListener, pair: Option<TlsCertificate>) -> anyhow::Result<()> {
    let tls = pair.map(|pair| pair.server()).transpose()?.map(TlsAcceptor::from);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // The measurement does not depend on how a connection ends.
        match tls.clone() {
            None => tokio::spawn(echo(stream)),
            Some(tls) => tokio::spawn(async move {
                let stream = Box::pin(tls.accept(stream)).await?;
                Box::pin(echo(stream)).await
            }),
        };
    }
}

fn pair() -> Option<TlsCertificate> {
    let mut paths = std::env::args().skip(2).map(PathBuf::from);
    Some(TlsCertificate { certificate: paths.next()?, key: paths.next()? })
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> anyhow::Result<()> {
    let config = Some(websocket_config());
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, config).await?;
    while let Some(message) = socket.next().await {
        if message?.is_text() {
            socket.send(Message::text(ANSWER)).await?;
        }
    }
    Ok(())
}
