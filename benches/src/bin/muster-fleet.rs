//! `muster-fleet`: any number of agents over real sockets.
//!
//! It waits for orders on standard input, a line each: `connect` connects every agent that is not
//! connected, at once and without backoff; `counts` tells what they have done. It ends with its
//! standard input.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use muster_benches::fleet::{MAX_SOCKETS, Plan, serve_alone, serve_shared};

/// Simulates a fleet of agents
#[derive(Parser)]
struct Cli {
    /// Where the server listens
    #[arg(long)]
    address: SocketAddr,
    /// How many agents
    #[arg(long)]
    agents: usize,
    /// Number of the first agent
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// The agent key; it must allow as many agents
    #[arg(long, env = "MUSTER_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Speak no protocol but a greeting: for servers that answer anything
    #[arg(long, conflicts_with = "key")]
    bare: bool,
    /// Accept executions and never settle them
    #[arg(long)]
    hold_executions: bool,
    /// Connect over TLS, and trust the certificates in this PEM file
    #[arg(long)]
    ca_file: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    anyhow::ensure!(cli.bare || cli.key.is_some(), "set MUSTER_API_KEY to an agent key");
    let plan = Plan {
        address: cli.address,
        agents: cli.agents,
        first: cli.first,
        key: cli.key,
        answer_execute: !cli.hold_executions,
        ca_file: cli.ca_file,
    };
    if plan.agents > MAX_SOCKETS {
        return serve_shared(&plan);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve_alone(plan))
}
