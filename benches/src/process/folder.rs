//! The folder of one measurement: data, state and logs.

use anyhow::Result;
use tempfile::TempDir;

/// Keeps the folders when set.
const KEEP: &str = "MUSTER_BENCH_KEEP";

/// A fresh folder on the disk for temporary files, removed when dropped.
pub fn scene() -> Result<TempDir> {
    let mut folder = tempfile::Builder::new().prefix("muster-bench-").tempdir()?;
    if std::env::var_os(KEEP).is_some() {
        folder.disable_cleanup(true);
        eprintln!("data and logs: {}", folder.path().display());
    }
    Ok(folder)
}
