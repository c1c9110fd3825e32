//! A large fleet that goes to another authority of the server while a tenth of it is away. Prints what it took; ends
//! with a panic if an agent was lost.

use clap::Parser;
use muster_tests::{AuthorityRollover, Database, Fixture, ServerOptions, TestDir};

/// Replace the authority of a server with many simulated agents.
#[derive(Parser)]
struct Arguments {
    /// Simulated agents.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    hosts: u32,
    /// Of so many agents, one is away.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    away_of: u32,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_REQUIRE_CLIENT_CERT", "agents");
    let options = options.with("MUSTER_MAX_CONNECTIONS_PER_SOURCE", 10_000);
    // The agents are silent while the others connect.
    let options = options.with("MUSTER_HEARTBEAT_INTERVAL_MS", 600_000);
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let rollover =
        AuthorityRollover { hosts: arguments.hosts as usize, away_of: arguments.away_of as usize };
    println!("{}", rollover.run(&fixture).await);
}
