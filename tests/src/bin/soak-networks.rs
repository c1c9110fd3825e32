//! Measures an agent over slow, lossy and broken networks, and prints a row for each. Needs root.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use muster_tests::{Case, Conditions, Transport, measure};

/// Output over slow networks: time, exactness, disconnects and pings
#[derive(Parser)]
struct Arguments {
    /// Bytes of output at 64 kbit/s; at other rates so many that it takes as long, within bounds
    #[arg(long, default_value_t = 1_000_000)]
    bytes: usize,
    /// Only this rate, in kbit/s
    #[arg(long)]
    rate: Option<u64>,
    /// Only this transport: websocket, http or tls
    #[arg(long)]
    transport: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let transports =
        [("websocket", Transport::WebSocket), ("http", Transport::Http), ("tls", Transport::Tls)];
    let mut is_good = true;
    for rate in [16, 64, 256, 1_000] {
        if arguments.rate.is_some_and(|only| only != rate) {
            continue;
        }
        for (name, transport) in transports {
            if arguments.transport.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            for (network, lost_per_million) in [("clean", 0), ("2 % lost", 20_000)] {
                let bytes = (arguments.bytes as u64 * rate / 64)
                    .clamp(arguments.bytes as u64 / 4, arguments.bytes as u64 * 4);
                let up = Conditions { lost_per_million, ..Conditions::kbit(rate) };
                let outcome = measure(Case {
                    transport,
                    up,
                    down: Conditions { lost_per_million, ..Conditions::kbit(rate * 4) },
                    output_bytes: usize::try_from(bytes).expect("a small number"),
                    ping_every: Duration::from_secs(5),
                    heartbeat: Duration::from_secs(30),
                })
                .await;
                let is_clean = lost_per_million == 0;
                let is_fast = !is_clean
                    || (outcome.ratio() <= 1.15 && outcome.ping_p99() < Duration::from_secs(3));
                let is_right = outcome.is_exact && outcome.disconnects == 0 && is_fast;
                is_good &= is_right;
                let mark = if is_right { "" } else { "  <-- misses its target" };
                println!(
                    "{rate:>5} kbit/s  {name:<9}  {network:<8}  {bytes:>8} B  {outcome}{mark}"
                );
            }
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
