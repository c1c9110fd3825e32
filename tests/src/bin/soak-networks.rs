//! Measures agents over slow, lossy and broken networks, and under floods of other agents, and prints
//! a row for each. The networks need root.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use muster_tests::{Blackhole, Case, Conditions, Flood, Period, Transport, measure, measure_flood};

/// Output over bad networks: time, exactness, disconnects and pings; and the effect of floods
#[derive(Parser)]
struct Arguments {
    /// What to measure; all of it by default
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Bytes of output at 64 kbit/s; at other rates so many that it takes as long, within bounds
    #[arg(long, default_value_t = 1_000_000)]
    bytes: usize,
    /// Only this rate, in kbit/s
    #[arg(long)]
    rate: Option<u64>,
    /// Only this transport: websocket, http or tls
    #[arg(long)]
    transport: Option<String>,
    /// Seconds of each period of a flood
    #[arg(long, default_value_t = 15)]
    flood_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Slow networks, without losses
    Slow,
    /// Slow networks that lose 2 % of the packets
    Lossy,
    /// Networks on which packets disappear for a while, in one direction or both
    Blackholes,
    /// Large manifests and unacknowledged output of other agents
    Floods,
}

const TRANSPORTS: [(&str, Transport); 3] =
    [("websocket", Transport::WebSocket), ("http", Transport::Http), ("tls", Transport::Tls)];

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut is_good = true;
    for rate in [16, 64, 256, 1_000] {
        if arguments.rate.is_some_and(|only| only != rate) {
            continue;
        }
        for (part, lost_per_million) in [(Part::Slow, 0), (Part::Lossy, 20_000)] {
            if wants(part) {
                is_good &= slow_networks(&arguments, rate, lost_per_million).await;
            }
        }
    }
    if wants(Part::Blackholes) {
        is_good &= blackholes(&arguments).await;
    }
    if wants(Part::Floods) {
        floods(Duration::from_secs(arguments.flood_seconds)).await;
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Arguments {
    fn transports(&self) -> impl Iterator<Item = (&'static str, Transport)> {
        let only = self.transport.clone();
        TRANSPORTS.into_iter().filter(move |(name, _)| only.as_ref().is_none_or(|it| it == name))
    }
}

async fn slow_networks(arguments: &Arguments, rate: u64, lost_per_million: u32) -> bool {
    let mut is_good = true;
    let usual_bytes = arguments.bytes as u64;
    let bytes = (usual_bytes * rate / 64).clamp(usual_bytes / 4, usual_bytes * 4);
    let network = if lost_per_million == 0 { "clean" } else { "2 % lost" };
    for (name, transport) in arguments.transports() {
        let outcome = measure(Case {
            transport,
            up: Conditions { lost_per_million, ..Conditions::kbit(rate) },
            down: Conditions { lost_per_million, ..Conditions::kbit(rate * 4) },
            blackhole: None,
            output_bytes: usize::try_from(bytes).expect("a small number"),
            ping_every: Duration::from_secs(5),
            heartbeat: Duration::from_secs(30),
        })
        .await;
        let is_fast = lost_per_million > 0
            || (outcome.ratio() <= 1.15 && outcome.ping_p99() < Duration::from_secs(3));
        let is_right = outcome.is_exact && outcome.disconnects == 0 && is_fast;
        is_good &= is_right;
        let mark = if is_right { "" } else { "  <-- misses its target" };
        println!("{rate:>5} kbit/s  {name:<9}  {network:<8}  {bytes:>8} B  {outcome}{mark}");
    }
    is_good
}

async fn blackholes(arguments: &Arguments) -> bool {
    let mut is_good = true;
    for (name, transport) in arguments.transports() {
        for (direction, up, down) in
            [("up", true, false), ("down", false, true), ("both ways", true, true)]
        {
            // The second is longer than either side waits for a sign of life.
            for (seconds, most_disconnects) in [(10, 0), (90, 2)] {
                let outcome = measure(Case {
                    transport,
                    up: Conditions::kbit(256),
                    down: Conditions::kbit(1_000),
                    blackhole: Some(Blackhole {
                        up,
                        down,
                        after: Duration::from_secs(5),
                        time: Duration::from_secs(seconds),
                    }),
                    output_bytes: arguments.bytes / 2,
                    ping_every: Duration::from_secs(5),
                    heartbeat: Duration::from_secs(30),
                })
                .await;
                let is_right = outcome.is_exact && outcome.disconnects <= most_disconnects;
                is_good &= is_right;
                let mark = if is_right { "" } else { "  <-- misses its target" };
                println!("{name:<9}  nothing passes {direction} for {seconds} s  {outcome}{mark}");
            }
        }
    }
    is_good
}

async fn floods(period: Duration) {
    for (name, flood, sessions) in [
        ("30 sessions of large manifests", Flood::Manifests, 30),
        ("20 sessions of unacknowledged output", Flood::Output, 20),
    ] {
        let outcome = measure_flood(flood, sessions, period).await;
        println!("{name}, {} frames", outcome.frames);
        for (when, period) in
            [("before", &outcome.before), ("during", &outcome.during), ("after", &outcome.after)]
        {
            print_period(when, period);
        }
    }
}

fn print_period(when: &str, period: &Period) {
    let mib = |bytes: u64| bytes / (1024 * 1024);
    println!(
        "  {when:<6}  ping p99 {:>5} ms of {} pings, {} unanswered; server {} MiB at most, {} MiB at the end",
        period.ping_p99().as_millis(),
        period.pings.len(),
        period.unanswered,
        mib(period.most_resident_bytes),
        mib(period.last_resident_bytes),
    );
}
