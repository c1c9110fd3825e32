//! The folder of one measurement: data, state and logs.

use anyhow::Result;
use tempfile::TempDir;

/// If set, the folders are kept.
const KEEP: &str = "MUSTER_BENCH_KEEP";

/// A new folder on the disk for temporary files, removed on drop.
pub fn measurement_folder() -> Result<TempDir> {
    let mut folder = tempfile::Builder::new().prefix("muster-bench-").tempdir()?;
    if std::env::var_os(KEEP).is_some() {
        folder.disable_cleanup(true);
        eprintln!("data and logs: {}", folder.path().display());
    }
    Ok(folder)
}
