//! Load over HTTP: keep-alive connections, each with one request in flight.
//!
//! The generator shares the processors with the measured program, so it does as little as possible:
//! requests are encoded in advance, and only the status and length of responses are parsed.

mod connection;
mod latency;
pub mod pattern;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::process::cpu_ms;

pub use self::connection::{Connection, Request};
pub use self::latency::Latencies;

/// Connections of one run.
pub const CONNECTIONS: usize = 64;

/// The result of a run.
#[derive(Debug)]
pub struct LoadResult {
    pub per_second: f64,
    pub latencies: Latencies,
    pub answers: u64,
    /// The server's processor time per response, including its share of commits and background
    /// work.
    pub cpu_us: f64,
}

/// The server under load.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    /// Its process id, for processor time.
    pub pid: u32,
}

/// Sends these requests in turn, over [`CONNECTIONS`] connections, for `duration` after a warm-up.
/// Every response must have the status `expected`.
pub async fn run(
    target: Target,
    requests: Vec<Request>,
    expected: u16,
    warm_up: Duration,
    duration: Duration,
) -> Result<LoadResult> {
    let requests = Arc::new(requests);
    let begin = Instant::now() + warm_up;
    let end = begin + duration;
    let mut tasks = Vec::with_capacity(CONNECTIONS);
    for index in 0..CONNECTIONS {
        let requests = Arc::clone(&requests);
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(target.address).await?;
            let mut latencies = Latencies::default();
            // Each connection starts at its own offset, so that no two address the same agent in
            // step.
            let mut at = index * requests.len() / CONNECTIONS;
            loop {
                let sent_at = Instant::now();
                if sent_at >= end {
                    return anyhow::Ok(latencies);
                }
                let status = connection.send(&requests[at]).await?;
                ensure!(status == expected, "answered {status}: {}", connection.text());
                at = (at + 1) % requests.len();
                if sent_at >= begin {
                    latencies.add(sent_at.elapsed());
                }
            }
        }));
    }
    tokio::time::sleep_until(begin.into()).await;
    let cpu_before = cpu_ms(target.pid)?;
    tokio::time::sleep_until(end.into()).await;
    let cpu_spent = cpu_ms(target.pid)? - cpu_before;
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let answers = latencies.len() as u64;
    Ok(LoadResult {
        per_second: answers as f64 / duration.as_secs_f64(),
        latencies,
        answers,
        cpu_us: cpu_spent as f64 * 1_000.0 / answers.max(1) as f64,
    })
}
