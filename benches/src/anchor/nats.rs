//! Request and reply through NATS, in the shape of P1: requesters with one request in flight each,
//! and a thousand subscribers, each with its own connection. The cost of a bus without storage.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::Latencies;
use crate::process::ManagedProcess;

/// Debian installs it in a folder that is only on root's path.
const PROGRAMS: [&str; 2] = ["/usr/sbin/nats-server", "/usr/local/bin/nats-server"];
const PATIENCE: Duration = Duration::from_secs(10);

/// The workload.
#[derive(Debug, Clone, Copy)]
pub struct NatsWorkload {
    pub requesters: usize,
    pub subscribers: usize,
    pub duration: Duration,
}

/// Requests per second; `None` if NATS is not installed.
pub async fn request_reply(
    folder: &Path,
    exchange: NatsWorkload,
) -> Result<Option<(f64, Latencies)>> {
    let Some(program) = PROGRAMS.iter().find(|path| Path::new(path).exists()) else {
        return Ok(None);
    };
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", &address.port().to_string()]);
    let _server = ManagedProcess::start("nats", &command, folder, Signal::SIGKILL)?;
    // Subscribers have a thread of their own, as simulated agents have a process of their own.
    let subscribers = exchange.subscribers;
    std::thread::spawn(move || subscribe(address, subscribers));
    let mut connections = Vec::with_capacity(exchange.requesters);
    for _ in 0..exchange.requesters {
        connections.push(NatsConnection::open(address).await?);
    }
    // Requests before the subscriptions exist get no answer, and the protocol does not report when
    // they do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now() + Duration::from_millis(500);
    let end = begin + exchange.duration;
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(index, connection)| {
            tokio::spawn(request(connection, index, subscribers, begin, end))
        })
        .collect();
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Some((latencies.len() as f64 / exchange.duration.as_secs_f64(), latencies)))
}

fn subscribe(address: SocketAddr, subscribers: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = Vec::with_capacity(subscribers);
        for index in 0..subscribers {
            let connection = NatsConnection::open(address).await?;
            tasks.push(tokio::spawn(answer(connection, index)));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

/// Replies until NATS ends.
async fn answer(mut connection: NatsConnection, index: usize) -> Result<()> {
    connection.send(format!("SUB agent.{index} 1\r\n").as_bytes()).await?;
    loop {
        let reply_to = connection.message().await?;
        connection.send(format!("PUB {reply_to} 13\r\n{{\"pong\":true}}\r\n").as_bytes()).await?;
    }
}

async fn request(
    mut connection: NatsConnection,
    index: usize,
    subscribers: usize,
    begin: Instant,
    end: Instant,
) -> Result<Latencies> {
    connection.send(format!("SUB answer.{index} 1\r\n").as_bytes()).await?;
    let mut latencies = Latencies::default();
    let mut at = index;
    loop {
        let sent_at = Instant::now();
        if sent_at >= end {
            return Ok(latencies);
        }
        at = (at + 1) % subscribers;
        let request = format!("PUB agent.{at} answer.{index} 4\r\nping\r\n");
        connection.send(request.as_bytes()).await?;
        connection.message().await?;
        if sent_at >= begin {
            latencies.add(sent_at.elapsed());
        }
    }
}

struct NatsConnection {
    stream: TcpStream,
    input: Vec<u8>,
}

impl NatsConnection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => return Err(error).context("reach NATS"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, input: Vec::new() };
        connection.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").await?;
        Ok(connection)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Waits for one message; returns its reply subject, if any.
    async fn message(&mut self) -> Result<String> {
        loop {
            if let Some((used, message)) = step(&self.input) {
                self.input.drain(..used);
                match message {
                    NatsStep::Message { reply_to } => return Ok(reply_to),
                    NatsStep::Ping => self.send(b"PONG\r\n").await?,
                    NatsStep::Other => {}
                }
            } else if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("NATS hung up");
            }
        }
    }
}

enum NatsStep {
    Message { reply_to: String },
    Ping,
    Other,
}

/// Parses one line of the protocol with its payload, and its size; `None` if it is incomplete.
fn step(input: &[u8]) -> Option<(usize, NatsStep)> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let line = str::from_utf8(&input[..end]).ok()?.trim_end();
    let mut words = line.split(' ');
    match words.next() {
        Some("MSG") => {
            let words: Vec<&str> = words.collect();
            let length: usize = words.last()?.parse().ok()?;
            let whole = end + 1 + length + 2;
            let reply_to = if words.len() > 3 { words[2].to_owned() } else { String::new() };
            (input.len() >= whole).then_some((whole, NatsStep::Message { reply_to }))
        }
        Some("PING") => Some((end + 1, NatsStep::Ping)),
        _ => Some((end + 1, NatsStep::Other)),
    }
}
