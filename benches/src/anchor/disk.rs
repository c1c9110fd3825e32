//! The machine's own cost of a process and of a durable write.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::load::Latencies;

/// Median time, in ms, to start this script, read its output and wait for it.
pub fn spawn_ms(script: &Path, times: usize) -> Result<f64> {
    let mut latencies = Latencies::default();
    for _ in 0..times {
        let began_at = Instant::now();
        spawn(script)?;
        latencies.add(began_at.elapsed());
    }
    Ok(latencies.quantile_ms(0.5))
}

/// Runs of this script per second with `at_once` in parallel, each with its output read.
pub fn spawns_per_s(script: &Path, at_once: usize, duration: Duration) -> Result<f64> {
    let end = Instant::now() + duration;
    let runs: Result<u64> = std::thread::scope(|scope| {
        let run = || -> Result<u64> {
            let mut runs = 0;
            while Instant::now() < end {
                spawn(script)?;
                runs += 1;
            }
            Ok(runs)
        };
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(run)).collect();
        let runs = threads.into_iter().map(|thread| thread.join().ok().context("run a script")?);
        runs.sum()
    });
    Ok(runs? as f64 / duration.as_secs_f64())
}

fn spawn(script: &Path) -> Result<()> {
    let output = Command::new("/bin/sh").arg(script).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "the script failed");
    Ok(())
}

/// MB per second when appending to a file in pieces of 256 KiB with one sync at the end.
pub fn append_mb_per_s(folder: &Path, bytes: u64) -> Result<f64> {
    let path = folder.join("appended");
    let piece = vec![b'x'; 256 * 1024];
    let began_at = Instant::now();
    let mut file = File::create(&path)?;
    for _ in 0..bytes / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    file.sync_data()?;
    let elapsed = began_at.elapsed();
    std::fs::remove_file(&path)?;
    Ok(bytes as f64 / 1e6 / elapsed.as_secs_f64())
}

/// Median time, in ms, of a small append with a sync.
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
