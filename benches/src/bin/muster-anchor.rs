//! `muster-anchor`: servers that do nothing but carry bytes, to set figures beside.
//!
//! It prints its address and serves until it is ended.

use anyhow::bail;
use axum::Router;
use axum::http::header;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use futures_util::{SinkExt as _, StreamExt as _};
use muster_benches::fleet::websocket_config;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

/// As long as a heartbeat's acknowledgement.
const ANSWER: &str = r#"{"type":"heartbeat_ack","timestamp":"2026-01-01T00:00:00.000000Z"}"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    match std::env::args().nth(1).as_deref() {
        Some("axum") => posts(listener).await,
        Some("websocket") => sockets(listener).await,
        _ => bail!("say `axum` or `websocket`"),
    }
}

/// Reads a body and answers.
async fn posts(listener: TcpListener) -> anyhow::Result<()> {
    let answer =
        async |_body: axum::body::Bytes| ([(header::CONTENT_TYPE, "application/json")], ANSWER);
    let app = Router::new().route("/", post(answer));
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

/// Answers every text.
async fn sockets(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // How a connection ends is of no interest here.
            let _ = echo(stream).await;
        });
    }
}

async fn echo(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let config = Some(websocket_config());
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, config).await?;
    while let Some(message) = socket.next().await {
        if message?.is_text() {
            socket.send(Message::text(ANSWER)).await?;
        }
    }
    Ok(())
}
