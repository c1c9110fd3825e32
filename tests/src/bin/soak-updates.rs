//! A large fleet that goes to another version and back while it works. Prints what it took; ends with
//! a panic if anything was lost, doubled or altered.

use std::time::Duration;

use clap::Parser;
use muster_tests::{Fixture, FleetUpgrade};

/// Send a working fleet to another version and back, and see whether what was promised holds.
#[derive(Parser)]
struct Arguments {
    /// Hosts, each with a supervisor and an agent of its own.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=450))]
    hosts: u32,
    /// Hosts of a wave.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    wave: u32,
    /// Lines that each job prints, some 40 a second: long enough for a way of the whole fleet.
    #[arg(long, default_value_t = 24_000)]
    lines: u32,
    /// For one way of the whole fleet.
    #[arg(long, default_value_t = 60)]
    patience_minutes: u64,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let fixture = Fixture::on_sqlite().await;
    let upgrade = FleetUpgrade {
        hosts: arguments.hosts as usize,
        wave: arguments.wave as usize,
        lines: arguments.lines,
        patience: Duration::from_secs(60 * arguments.patience_minutes),
    };
    println!("{}", upgrade.run(&fixture).await);
}
