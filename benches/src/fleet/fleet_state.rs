//! State shared by all agents of one process: orders for them, counts of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustls::ClientConfig;
use tokio::sync::{Notify, Semaphore, watch};

use crate::process::{FleetCounts, Round, trusting};

/// Concurrent handshakes. More would overflow the server's backlog and wait a second each for the
/// kernel's retries.
const HANDSHAKES: usize = 512;

/// Failures of one round that are printed.
const FAILURES_TOLD: u64 = 5;

/// The configuration of a process's agents.
#[derive(Debug, Clone)]
pub struct Plan {
    pub address: SocketAddr,
    pub agents: usize,
    /// Index of the first agent, for names and addresses that are unique over all processes.
    pub first: usize,
    /// Absent: connect to an anchor server, which has no protocol.
    pub key: Option<String>,
    /// If false, `execute` is accepted and never settled.
    pub answer_execute: bool,
    /// Connect over TLS and trust the certificates in this file.
    pub ca_file: Option<PathBuf>,
    /// Get a certificate for each agent first, and show it.
    pub is_mutual: bool,
}

/// Orders and counts.
#[derive(Debug)]
pub struct FleetState {
    pub plan: Plan,
    /// The TLS configuration of the plan.
    pub trust: Option<Arc<ClientConfig>>,
    pub handshakes: Semaphore,
    pub answers: AtomicU64,
    pub receipts: AtomicU64,
    pub heartbeats: AtomicU64,
    live: AtomicU64,
    failed: AtomicU64,
    changed: Notify,
    round: watch::Sender<u64>,
}

impl FleetState {
    pub fn new(plan: Plan) -> Result<Self> {
        let trust = plan.ca_file.as_deref().map(trusting).transpose()?;
        Ok(Self {
            plan,
            trust,
            handshakes: Semaphore::new(HANDSHAKES),
            answers: AtomicU64::default(),
            receipts: AtomicU64::default(),
            heartbeats: AtomicU64::default(),
            live: AtomicU64::default(),
            failed: AtomicU64::default(),
            changed: Notify::new(),
            round: watch::Sender::new(0),
        })
    }

    /// Notifies agents of a new round.
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.round.subscribe()
    }

    /// Connects every disconnected agent, and waits until each has connected or failed.
    pub async fn connect(&self) -> Round {
        let began_at = Instant::now();
        self.failed.store(0, Ordering::Relaxed);
        self.round.send_modify(|round| *round += 1);
        loop {
            let counts = self.counts();
            if counts.live + counts.failed >= self.plan.agents as u64 {
                let elapsed_ms = began_at.elapsed().as_secs_f64() * 1_000.0;
                return Round { live: counts.live, failed: counts.failed, elapsed_ms };
            }
            // A change between the check and the wait is noticed at the time limit.
            let _ = tokio::time::timeout(Duration::from_millis(5), self.changed.notified()).await;
        }
    }

    pub fn counts(&self) -> FleetCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FleetCounts {
            live: read(&self.live),
            failed: read(&self.failed),
            answers: read(&self.answers),
            receipts: read(&self.receipts),
            heartbeats: read(&self.heartbeats),
        }
    }

    pub fn record_connected(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    pub fn record_disconnected(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a failure and prints the first ones, since many have the same cause.
    pub fn record_failure(&self, index: usize, error: &anyhow::Error) {
        if self.failed.fetch_add(1, Ordering::Relaxed) < FAILURES_TOLD {
            eprintln!("agent {index}: {error:#}");
        }
        self.changed.notify_one();
    }
}
