//! `muster-benches`: measures the performance targets, each with its anchor.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use muster_benches::{measure, report};

/// Measures the performance targets
#[derive(Parser)]
struct Cli {
    /// Only these targets, such as `P1 P13` [default: all]
    targets: Vec<String>,
    /// Also write the figures to this file, as a Markdown page
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    // One thread, so that the measured programs get the rest of the machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lines = runtime.block_on(measure::all(&cli.targets))?;
    if let Some(path) = cli.results {
        std::fs::write(&path, report::page(&lines))
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
