//! The chaos suite for long: run after run, each with a seed, a fleet and a database of its own,
//! until the time is up. Ends with an error if any of them broke a promise.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use muster_tests::chaos::{ChaosReport, ChaosSettings, Statistics, Store, kept, run};

/// Kill everything at any moment, for long, and see whether what was promised holds.
#[derive(Parser)]
struct Arguments {
    /// How long to begin new runs.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Hosts of each run; its executions and faults grow with them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    hosts: u32,
    /// Of the first run; each run after it takes the next. A new one unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Make so many runs instead, however long they take: 1 replays one seed.
    #[arg(long)]
    runs: Option<u64>,
    /// Only on one database: `sqlite` or `postgres`; in turns unless given.
    #[arg(long, value_parser = store)]
    store: Option<Store>,
}

fn store(text: &str) -> Result<Store, String> {
    match text {
        "sqlite" => Ok(Store::Sqlite),
        "postgres" => Ok(Store::Postgres),
        _ => Err("it is `sqlite` or `postgres`".to_owned()),
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let first = arguments.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_fields().0.into());
    let begun = Instant::now();
    let is_over = |round| match arguments.runs {
        Some(runs) => round >= runs,
        None => begun.elapsed() >= Duration::from_secs(60 * arguments.minutes),
    };
    let mut total = Statistics::default();
    let mut round = 0;
    while !is_over(round) {
        let turns = if round % 2 == 0 { Store::Sqlite } else { Store::Postgres };
        let store = arguments.store.unwrap_or(turns);
        let settings = ChaosSettings::long(first + round, store, arguments.hosts as usize);
        match one(settings) {
            Ok(report) => {
                println!("{report}");
                total.add(&report.statistics);
            }
            // The panic is printed above, and must be looked at first.
            Err(error) => {
                println!("seed {} on {store:?}: {error:#}", first + round);
                total.add(&Statistics { runs: 1, violations: 1, ..Statistics::default() });
                break;
            }
        }
        round += 1;
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let last = first + (total.runs as u64).saturating_sub(1);
    let text = format!(
        "{minutes:.1} minutes, {} hosts a run, seeds {first} to {last}.\n\n{total}",
        arguments.hosts
    );
    println!("\n{text}");
    std::fs::create_dir_all(kept()).context("failed to make a folder for the statistics")?;
    std::fs::write(kept().join("statistics.md"), text).context("failed to write the statistics")?;
    Ok(if total.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run on threads of its own: if it can't come to its end, the statistics are still printed.
fn one(settings: ChaosSettings) -> anyhow::Result<ChaosReport> {
    let work = move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
        Ok(runtime.block_on(run(&settings)))
    };
    let thread = thread::Builder::new().spawn(work)?;
    thread.join().map_err(|_| anyhow::anyhow!("the run did not come to its end"))?
}
