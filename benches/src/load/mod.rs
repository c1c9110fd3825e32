//! Load over HTTP: keep-alive connections, each with one request in flight.
//!
//! The generator shares the processors with what it measures, so it does as little as it can:
//! requests are written beforehand, answers are read as far as their status and length.

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

/// What a run came to.
#[derive(Debug)]
pub struct Tally {
    pub per_second: f64,
    pub latencies: Latencies,
    pub answers: u64,
    /// Processor time of the server for one answer, its share of commits and so on included.
    pub cpu_us: f64,
}

/// Who is put under load.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    /// Its process, whose time is counted.
    pub pid: u32,
}

/// Sends these requests in turn, over [`CONNECTIONS`] connections, for `duration` behind a warm-up.
/// Every answer must have the status `expected`.
pub async fn run(
    target: Target,
    requests: Vec<Request>,
    expected: u16,
    warm_up: Duration,
    duration: Duration,
) -> Result<Tally> {
    let requests = Arc::new(requests);
    let begin = Instant::now() + warm_up;
    let end = begin + duration;
    let mut tasks = Vec::with_capacity(CONNECTIONS);
    for index in 0..CONNECTIONS {
        let requests = Arc::clone(&requests);
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(target.address).await?;
            let mut latencies = Latencies::default();
            // Each connection walks its own way, so that no two hammer one agent in step.
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
    Ok(Tally {
        per_second: answers as f64 / duration.as_secs_f64(),
        latencies,
        answers,
        cpu_us: cpu_spent as f64 * 1_000.0 / answers.max(1) as f64,
    })
}
