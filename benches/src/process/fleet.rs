//! Controls a `muster-fleet` process through pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::managed_process::{ManagedProcess, release_binary};
use crate::fleet::Plan;

/// Counts of a fleet so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct FleetCounts {
    /// Open sessions.
    pub live: u64,
    /// Agents that could not connect in the last round.
    pub failed: u64,
    pub answers: u64,
    /// Durable commands whose result the server has committed.
    pub receipts: u64,
    pub heartbeats: u64,
}

impl FleetCounts {
    /// Adds the counts of another part of the fleet.
    pub fn add(&mut self, other: Self) {
        self.live += other.live;
        self.failed += other.failed;
        self.answers += other.answers;
        self.receipts += other.receipts;
        self.heartbeats += other.heartbeats;
    }
}

/// The result of a round of connecting.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
pub struct Round {
    pub live: u64,
    pub failed: u64,
    /// Time from the order to the last `registered`.
    pub elapsed_ms: f64,
}

/// The pipes of a fleet, which ends on drop.
pub struct FleetHandle {
    program: ManagedProcess,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl FleetHandle {
    /// Starts a fleet without connections. Without a key it connects to an anchor server.
    pub fn start(
        folder: &Path,
        address: SocketAddr,
        agents: usize,
        key: Option<&str>,
    ) -> Result<Self> {
        let key = key.map(str::to_owned);
        let plan = Plan {
            address,
            agents,
            first: 0,
            key,
            answer_execute: true,
            ca_file: None,
            is_mutual: false,
        };
        Self::start_part(folder, &plan)
    }

    /// Starts a part of a fleet.
    pub fn start_part(folder: &Path, plan: &Plan) -> Result<Self> {
        let mut command = Command::new(release_binary("muster-fleet")?);
        command
            .args(["--address", &plan.address.to_string()])
            .args(["--agents", &plan.agents.to_string()])
            .args(["--first", &plan.first.to_string()]);
        match &plan.key {
            Some(key) => command.env("MUSTER_API_KEY", key),
            None => command.arg("--bare"),
        };
        if let Some(file) = &plan.ca_file {
            command.arg("--ca-file").arg(file);
            if plan.is_mutual {
                command.arg("--mutual");
            }
        }
        if !plan.answer_execute {
            command.arg("--hold-executions");
        }
        let mut program = ManagedProcess::start("fleet", &command, folder, Signal::SIGKILL)?;
        let (orders, answers) = program.pipes().context("reach the fleet")?;
        Ok(Self { program, orders, answers: BufReader::new(answers) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Connects every agent that is not connected.
    pub fn connect(&mut self) -> Result<Round> {
        let round: Round = self.order("connect")?;
        ensure!(round.failed == 0, "{} agents could not connect", round.failed);
        Ok(round)
    }

    /// Its counts so far.
    pub fn counts(&mut self) -> Result<FleetCounts> {
        self.order("counts")
    }

    /// Waits until `wanted` is true for the counts.
    pub fn wait_for(&mut self, wanted: impl Fn(&FleetCounts) -> bool) -> Result<FleetCounts> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let counts = self.counts()?;
            if wanted(&counts) {
                return Ok(counts);
            }
            ensure!(Instant::now() < deadline, "the fleet did not get there: {counts:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn order<T: for<'a> Deserialize<'a>>(&mut self, order: &str) -> Result<T> {
        self.begin(order)?;
        self.finish()
    }

    /// Sends an order; [`finish`](Self::finish) returns its reply.
    pub fn begin(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").context("send an order to the fleet")
    }

    /// Waits for the reply to an order.
    pub fn finish<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("hear from the fleet")?;
        serde_json::from_str(&line).with_context(|| format!("understand the fleet: {line:?}"))
    }
}
