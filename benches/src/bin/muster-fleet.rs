//! `muster-fleet`: simulates any number of agents over real sockets.
//!
//! It reads orders from standard input, one per line: `connect` connects every disconnected agent
//! at once and without backoff; `counts` prints counts of them. It ends with its standard input.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use muster_benches::fleet::{MAX_SOCKETS, Plan, serve_alone, serve_shared};

/// Simulates a fleet of agents
#[derive(Parser)]
struct Cli {
    /// Address of the server
    #[arg(long)]
    address: SocketAddr,
    /// Number of agents
    #[arg(long)]
    agents: usize,
    /// Index of the first agent
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Agent key, which must allow this many agents
    #[arg(long, env = "MUSTER_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Send only a greeting: for anchor servers without the protocol
    #[arg(long, conflicts_with = "key")]
    bare: bool,
    /// Accept executions and never settle them
    #[arg(long)]
    hold_executions: bool,
    /// Connect over TLS and trust the certificates in this PEM file
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Get a certificate for each agent first, and show it
    #[arg(long, requires = "ca_file", conflicts_with = "bare")]
    mutual: bool,
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
        is_mutual: cli.mutual,
    };
    if plan.agents > MAX_SOCKETS {
        return serve_shared(&plan);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve_alone(plan))
}
