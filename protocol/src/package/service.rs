//! Services: packages whose program a host keeps running.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entries;
use super::{MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, TaskRun};
use crate::frame::Outcome;

/// The time limit that the run of a service has in records and commands: 100 years, which is none.
pub const SERVICE_TIMEOUT_MS: u64 = 100 * 366 * 86_400_000;
/// Shortest interval between two checks of a service's health: 1 s.
pub const MIN_HEALTH_INTERVAL_MS: u64 = 1_000;
/// Longest interval between two checks, and longest time of one: 1 h.
pub const MAX_HEALTH_INTERVAL_MS: u64 = 3_600_000;
/// Most failed checks in a row before a service is restarted.
pub const MAX_HEALTH_FAILURES: u32 = 100;
/// Smallest limit of a service's memory: 4 MiB.
pub const MIN_SERVICE_MEMORY_BYTES: u64 = 4 * 1024 * 1024;
/// Smallest limit of the output that is kept of a run of a service: 4 MiB.
pub const MIN_SERVICE_LOG_BYTES: u64 = 4 * 1024 * 1024;
/// Largest limit of the output that is kept of a run of a service: 64 MiB.
pub const MAX_SERVICE_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// The newest output that is kept of a run of a service that says nothing about it: 16 MiB.
pub const DEFAULT_SERVICE_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// Most output that one run of a service records: 1 TiB. What it prints after that is dropped and counted.
pub const MAX_SERVICE_OUTPUT_BYTES: u64 = 1024 * 1024 * 1024 * 1024;
/// Largest limit of a service's processors, in percent of one.
pub const MAX_CPU_PERCENT: u32 = 100_000;
/// Longest time between the request to end and the kill: 10 min.
pub const MAX_STOP_GRACE_MS: u64 = 600_000;
/// Time of a check that has none of its own.
const DEFAULT_HEALTH_TIMEOUT_MS: u64 = 10_000;
/// Failed checks in a row that restart a service that says nothing about it.
const DEFAULT_HEALTH_FAILURES: u32 = 3;

/// What `[service]` of `muster.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Time between TERM and KILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace_ms: Option<u64>,
    /// Most memory of all its processes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_bytes: Option<u64>,
    /// Most processor time of all its processes together: 100 is one processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu_percent: Option<u32>,
    /// The newest output of each run that is kept; older output is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_log_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
}

/// Which ends of a service are followed by another start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    Always,
    /// Not after exit code 0.
    OnFailure,
    Never,
}

/// A program of the package that succeeds while the service works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// A file of the archive. The executor of the package starts it.
    pub entry: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// From one check to the next, and from the start to the first one.
    pub interval_ms: u64,
    #[serde(default = "default_timeout", skip_serializing_if = "is_default_timeout")]
    pub timeout_ms: u64,
    /// Failed checks in a row after which the service is restarted.
    #[serde(default = "default_failures", skip_serializing_if = "is_default_failures")]
    pub failures: u32,
}

/// What people want of a service on one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceControl {
    #[serde(default)]
    pub is_stopped: bool,
    /// Counts the requests to restart it. The host restarts it once for all that it has not seen.
    #[serde(default)]
    pub restart_requests: u64,
}

/// What a service does on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// It can't start yet: the package is not there, or the host refuses it.
    Waiting,
    Running,
    /// It is being ended, to stop or to be replaced.
    Stopping,
    /// It has ended, and starts again after a delay.
    Backoff,
    /// A person has stopped it.
    Stopped,
    /// It has ended, and its restart policy does not start it again.
    Ended,
}

impl ServiceState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }
}

/// The result of the last checks of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceHealth {
    /// No check has ended.
    Unknown,
    Healthy,
    /// The last check failed.
    Failing,
}

/// Whether the limits of a service hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceLimits {
    Applied,
    /// The host has no control groups of version 2 that the agent may use.
    Unavailable,
}

/// What a host reports about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceReport {
    pub state: ServiceState,
    /// When the last run was started, in milliseconds since the Unix epoch. The id of the run follows
    /// from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// Starts after an end that was not requested, since the host has this version.
    #[serde(default)]
    pub restart_count: u64,
    /// With `backoff`: when it starts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_at_ms: Option<u64>,
    /// How the last run that has ended did so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<Outcome>,
    /// Its stable code for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_code: Option<String>,
    /// Absent for a service without a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ServiceHealth>,
    /// Absent for a service without limits, and while it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ServiceLimits>,
}

impl ServiceSettings {
    /// Checks everything that does not depend on the archive.
    ///
    /// # Errors
    /// The field, and a problem as the end of a sentence about it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let refused = |field: &str, problem: &str| Err((field.to_owned(), problem.to_owned()));
        if self.stop_grace_ms.is_some_and(|grace| grace > MAX_STOP_GRACE_MS) {
            return refused("service.stop_grace_ms", "must be at most 10 minutes");
        }
        if self.max_memory_bytes.is_some_and(|bytes| bytes < MIN_SERVICE_MEMORY_BYTES) {
            return refused("service.max_memory_bytes", "must be at least 4 MiB");
        }
        if self.max_cpu_percent.is_some_and(|cpu| !(1..=MAX_CPU_PERCENT).contains(&cpu)) {
            return refused("service.max_cpu_percent", "must be at least 1 and at most 100000");
        }
        let log_bounds = MIN_SERVICE_LOG_BYTES..=MAX_SERVICE_LOG_BYTES;
        if self.max_log_bytes.is_some_and(|bytes| !log_bounds.contains(&bytes)) {
            let problem = "must be at least 4 MiB and at most 64 MiB";
            return refused("service.max_log_bytes", problem);
        }
        let Some(health) = &self.health else { return Ok(()) };
        if entries::check_path(&health.entry).is_err() {
            return refused("service.health.entry", "must be the path of a file of the archive");
        }
        let is_argument =
            |argument: &String| argument.len() <= MAX_ARGUMENT_BYTES && !argument.contains('\0');
        if health.argv.len() > MAX_ARGUMENTS || !health.argv.iter().all(is_argument) {
            let problem = "must be at most 64 texts of at most 4096 bytes, without NUL";
            return refused("service.health.argv", problem);
        }
        if !(MIN_HEALTH_INTERVAL_MS..=MAX_HEALTH_INTERVAL_MS).contains(&health.interval_ms) {
            return refused("service.health.interval_ms", "must be at least 1000 and at most 1 h");
        }
        if !(1..=MAX_HEALTH_INTERVAL_MS).contains(&health.timeout_ms) {
            return refused("service.health.timeout_ms", "must be at least 1 and at most 1 h");
        }
        if !(1..=MAX_HEALTH_FAILURES).contains(&health.failures) {
            return refused("service.health.failures", "must be at least 1 and at most 100");
        }
        Ok(())
    }

    /// The newest output of each run that is kept.
    pub fn log_bytes(&self) -> u64 {
        let bytes = self.max_log_bytes.unwrap_or(DEFAULT_SERVICE_LOG_BYTES);
        bytes.clamp(MIN_SERVICE_LOG_BYTES, MAX_SERVICE_LOG_BYTES)
    }

    /// True if it has a limit that the system must apply.
    pub fn has_limits(&self) -> bool {
        self.max_memory_bytes.is_some() || self.max_cpu_percent.is_some()
    }
}

impl ServiceReport {
    /// The id of the last run. It can only be one of this agent and assignment.
    pub fn run_id(&self, agent_id: Uuid, assignment_id: Uuid) -> Option<Uuid> {
        Some(TaskRun::id(agent_id, assignment_id, self.started_at_ms?))
    }
}

fn default_timeout() -> u64 {
    DEFAULT_HEALTH_TIMEOUT_MS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_timeout(timeout_ms: &u64) -> bool {
    *timeout_ms == DEFAULT_HEALTH_TIMEOUT_MS
}

fn default_failures() -> u32 {
    DEFAULT_HEALTH_FAILURES
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_failures(failures: &u32) -> bool {
    *failures == DEFAULT_HEALTH_FAILURES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_the_field_that_breaks_a_rule() {
        let whole = || ServiceSettings {
            health: Some(HealthCheck {
                entry: "bin/health.sh".into(),
                argv: Vec::new(),
                interval_ms: 1_000,
                timeout_ms: 1_000,
                failures: 1,
            }),
            ..ServiceSettings::default()
        };
        assert_eq!(whole().check(), Ok(()));
        let field = |change: fn(&mut ServiceSettings)| {
            let mut changed = whole();
            change(&mut changed);
            changed.check().expect_err("refused").0
        };
        fn health(settings: &mut ServiceSettings) -> &mut HealthCheck {
            settings.health.as_mut().expect("given")
        }
        assert_eq!(field(|it| it.stop_grace_ms = Some(600_001)), "service.stop_grace_ms");
        assert_eq!(field(|it| it.max_memory_bytes = Some(1)), "service.max_memory_bytes");
        assert_eq!(field(|it| it.max_cpu_percent = Some(0)), "service.max_cpu_percent");
        assert_eq!(field(|it| it.max_log_bytes = Some(4_194_303)), "service.max_log_bytes");
        assert_eq!(field(|it| it.max_log_bytes = Some(67_108_865)), "service.max_log_bytes");
        assert_eq!(field(|it| health(it).entry = "../a".into()), "service.health.entry");
        assert_eq!(field(|it| health(it).argv = vec!["\0".into()]), "service.health.argv");
        assert_eq!(field(|it| health(it).interval_ms = 999), "service.health.interval_ms");
        assert_eq!(field(|it| health(it).timeout_ms = 0), "service.health.timeout_ms");
        assert_eq!(field(|it| health(it).failures = 101), "service.health.failures");
    }
}
