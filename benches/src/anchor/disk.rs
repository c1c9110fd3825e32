//! What the machine itself asks for a process and for a durable write.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::load::Latencies;

/// Median time, in ms, from starting this script to having read its output and waited for it.
pub fn spawn_ms(script: &Path, times: usize) -> Result<f64> {
    let mut latencies = Latencies::default();
    for _ in 0..times {
        let began_at = Instant::now();
        let output = Command::new("/bin/sh").arg(script).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "the script failed");
        latencies.add(began_at.elapsed());
    }
    Ok(latencies.quantile_ms(0.5))
}

/// Median time, in ms, of appending a little to a file and syncing it.
pub fn fsync_ms(folder: &Path, times: usize) -> Result<f64> {
    let mut file = File::create(folder.join("synced"))?;
    let mut latencies = Latencies::default();
    for _ in 0..times {
        let began_at = Instant::now();
        file.write_all(&[b'x'; 256])?;
        file.sync_data()?;
        latencies.add(began_at.elapsed());
    }
    Ok(latencies.quantile_ms(0.5))
}
