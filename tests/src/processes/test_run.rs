//! The run that a test belongs to: one call of nextest, or the test's own process without it.

use std::fs;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

/// Of the times in `/proc`, on every supported platform.
const TICKS_PER_SECOND: f64 = 100.0;

/// The run. Its tests share what is expensive to start.
#[derive(Debug)]
pub struct TestRun {
    pub id: String,
    /// The process that lives as long as the run.
    pub process_id: u32,
}

impl TestRun {
    /// The run of this process.
    pub fn current() -> Self {
        match std::env::var("NEXTEST_RUN_ID") {
            Ok(id) => Self { id, process_id: std::os::unix::process::parent_id() },
            Err(_) => Self { id: Uuid::new_v4().to_string(), process_id: std::process::id() },
        }
    }

    /// When the run's process started: with nextest, before it built anything.
    pub fn started_at(&self) -> SystemTime {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process_id));
        let stat = stat.expect("read the process of the run");
        // The name in parentheses may contain anything. The start time is field 22; the state is
        // field 3.
        let fields = &stat[stat.rfind(')').expect("a name in brackets") + 1..];
        let start_ticks: f64 = number(fields.split_ascii_whitespace().nth(19));
        let started = start_ticks / TICKS_PER_SECOND;
        let uptime = fs::read_to_string("/proc/uptime").expect("read the uptime");
        let uptime: f64 = number(uptime.split_ascii_whitespace().next());
        SystemTime::now() - Duration::from_secs_f64((uptime - started).max(0.0))
    }
}

fn number(field: Option<&str>) -> f64 {
    field.and_then(|field| field.parse().ok()).expect("a number of the kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_started_before_its_tests_and_not_long_ago() {
        let run = TestRun::current();
        let age = SystemTime::now().duration_since(run.started_at()).expect("in the past");
        assert!(age < Duration::from_secs(24 * 3600), "{age:?}");
    }
}
