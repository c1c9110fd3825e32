//! Memory and processor time of a process, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// The kernel reports processor time in hundredths of a second, on every platform.
const MS_PER_TICK: u64 = 10;

/// Memory of one process, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub rss_bytes: u64,
    /// Private memory.
    pub private_bytes: u64,
}

/// The current memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .context("read the memory of a process")?;
    let kib = |name: &str| field(&text, name).unwrap_or(0);
    Ok(Memory {
        rss_bytes: kib("Rss:") * 1024,
        private_bytes: (kib("Private_Clean:") + kib("Private_Dirty:")) * 1024,
    })
}

/// Its peak resident memory.
pub fn peak_rss_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("read a status")?;
    Ok(field(&text, "VmHWM:").context("find the peak")? * 1024)
}

/// Processor time of all threads so far, user and system, in ms.
pub fn cpu_ms(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("read processor time")?;
    // The name in parentheses may contain spaces, so fields are counted after the last parenthesis.
    let behind = text.rsplit_once(')').context("read processor time")?.1;
    let ticks: Vec<u64> =
        behind.split_whitespace().skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
    Ok(ticks.iter().sum::<u64>() * MS_PER_TICK)
}

/// Load of the machine over the last minute.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
