//! A client that only connects: what the agent's memory is set beside.

use futures_util::StreamExt as _;
use muster_benches::fleet::websocket_config;
use tokio::net::TcpStream;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(connect())
}

async fn connect() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_default();
    let stream = TcpStream::connect(&address).await?;
    let config = Some(websocket_config());
    let (mut socket, _) =
        tokio_tungstenite::client_async_with_config(format!("ws://{address}/"), stream, config)
            .await?;
    while let Some(message) = socket.next().await {
        message?;
    }
    Ok(())
}
