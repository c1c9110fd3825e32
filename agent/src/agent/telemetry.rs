//! Telemetry that heartbeats report about the host.

use std::path::{Path, PathBuf};

use muster_protocol::frame::{Heartbeat, Telemetry};
use serde_json::{Map, Value};
use sysinfo::{MemoryRefreshKind, System};

use crate::clock::timestamp;
use crate::platform;

/// Measures the host. Keeps only the last processor reading between two heartbeats.
#[derive(Debug)]
pub struct TelemetryCollector {
    system: Option<System>,
    disk: PathBuf,
}

impl TelemetryCollector {
    /// `disk` is a path on the file system that is reported.
    pub fn new(disk: &Path) -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self { system, disk: disk.to_owned() }
    }

    /// A heartbeat with current values. A value that can't be read is left out.
    pub fn heartbeat(&mut self, running_executions: usize) -> Heartbeat {
        let telemetry = self.measure(running_executions);
        let mut status = match serde_json::to_value(telemetry) {
            Ok(Value::Object(status)) => status,
            _ => Map::new(),
        };
        status.insert("timestamp".into(), timestamp().into());
        Heartbeat { status }
    }

    fn measure(&mut self, running_executions: usize) -> Telemetry {
        let mut telemetry = Telemetry {
            uptime_seconds: System::uptime().ok().map(|seconds| seconds as f64),
            load_1m: System::load_average().ok().map(|load| load.one),
            disk_percent: platform::disk_used_percent(&self.disk).ok().map(tenth),
            running_executions: Some(running_executions as f64),
            ..Telemetry::default()
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            telemetry.cpu_percent = Some(tenth(f64::from(system.global_cpu_usage())));
            let total = system.total_memory() as f64;
            if total > 0.0 {
                telemetry.memory_percent = Some(tenth(system.used_memory() as f64 / total * 100.0));
            }
        }
        telemetry
    }
}

fn tenth(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_contains_numbers_that_the_server_accepts() {
        let status = TelemetryCollector::new(Path::new("/")).heartbeat(3).status;
        let read = Telemetry::from_status(&status);
        assert_eq!(read.running_executions, Some(3.0));
        assert!(read.disk_percent.is_some_and(|disk| (0.0..=100.0).contains(&disk)), "{read:?}");
        assert!(read.memory_percent.is_some(), "{read:?}");
        assert!(status.contains_key("timestamp"));
    }
}
