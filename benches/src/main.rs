//! `muster-benches`: the performance targets, each figure beside its anchor.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use muster_benches::{measure, report};

/// Measures the performance targets
#[derive(Parser)]
struct Cli {
    /// Only these, such as `P1 P13` [default: all]
    targets: Vec<String>,
    /// Also write the figures to this file, as a page
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    // One thread: the load generator leaves the rest of the machine to what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lines = runtime.block_on(measure::all(&cli.targets))?;
    if let Some(path) = cli.results {
        std::fs::write(&path, report::page(&lines))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
