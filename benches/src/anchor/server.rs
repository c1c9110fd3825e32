//! Runs `muster-anchor` as a separate process, like the server.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::load::{self, LoadResult, Request, Target};
use crate::process::{ManagedProcess, TlsCertificate, release_binary};

/// A minimal server.
pub struct AnchorServer {
    program: ManagedProcess,
    pub address: SocketAddr,
}

impl AnchorServer {
    /// Starts the server with this name: `axum` or `websocket`.
    pub fn start(folder: &Path, name: &str) -> Result<Self> {
        Self::start_over(folder, name, None)
    }

    /// Like [`AnchorServer::start`]; with a certificate it serves over TLS (only `websocket`).
    pub fn start_over(folder: &Path, name: &str, tls: Option<&TlsCertificate>) -> Result<Self> {
        let mut command = Command::new(release_binary("muster-anchor")?);
        command.arg(name);
        if let Some(pair) = tls {
            command.args([&pair.certificate, &pair.key]);
        }
        let mut program = ManagedProcess::start("anchor", &command, folder, Signal::SIGKILL)?;
        let (_, output) = program.pipes().context("reach the anchor")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().context("read the anchor's address")?;
        Ok(Self { program, address })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// POSTs per second of a handler that does nothing.
    pub async fn posts(&self, body: Option<&str>, duration: Duration) -> Result<LoadResult> {
        let requests = vec![Request::new("POST", "/", Some("nobody"), body); load::CONNECTIONS];
        let target = Target { address: self.address, pid: self.pid() };
        load::run(target, requests, 200, Duration::from_millis(500), duration).await
    }

    /// MB per second over one WebSocket, in frames of the size of output frames.
    pub async fn stream_mb_per_s(&self, bytes: u64) -> Result<f64> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut socket, _) = client_async(format!("ws://{}/", self.address), stream).await?;
        let piece = Message::binary(vec![b'x'; 256 * 1024]);
        let began_at = Instant::now();
        for _ in 0..bytes / piece.len() as u64 {
            socket.send(piece.clone()).await?;
        }
        // The answer follows everything that was sent before.
        socket.send(Message::text("done")).await?;
        socket.next().await.context("hear the end")??;
        Ok(bytes as f64 / 1e6 / began_at.elapsed().as_secs_f64())
    }

    /// Echoes per second over `connections` WebSockets, one in flight on each.
    pub async fn echoes(&self, connections: usize, duration: Duration) -> Result<f64> {
        let end = Instant::now() + duration;
        let mut tasks = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let (mut socket, _) = client_async(format!("ws://{}/", self.address), stream).await?;
            tasks.push(tokio::spawn(async move {
                let mut count = 0_u64;
                while Instant::now() < end {
                    socket.send(Message::text(r#"{"type":"ping"}"#)).await?;
                    socket.next().await.context("hear an echo")??;
                    count += 1;
                }
                anyhow::Ok(count)
            }));
        }
        let mut count = 0;
        for task in tasks {
            count += task.await??;
        }
        Ok(count as f64 / duration.as_secs_f64())
    }
}
