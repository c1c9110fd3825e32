//! The health check of a container: is this host managed?
//!
//! Reads `supervisor.json` and checks that the agent's process exists; asks neither the agent nor
//! its server. An unreachable server and a running download are not faults of the container, and
//! restarting it for them would end its executions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::platform;

/// Why a host is not healthy, in one line.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is no status file.
    #[error("failed to read {}; is the supervisor running?", path.display())]
    NoStatus {
        /// The status file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The status file is malformed.
    #[error("{} is not a supervisor's status file", path.display())]
    InvalidStatus {
        /// The supervisor's file.
        path: PathBuf,
    },
    /// The agent does not run.
    #[error("the agent does not run: {state}: {reason}")]
    NotRunning {
        /// The state in `supervisor.json`.
        state: String,
        /// The reason in `supervisor.json`.
        reason: String,
    },
    /// The status file says that the agent runs, but its process does not exist.
    #[error("the agent's process {agent_pid} is gone, and the supervisor could not record that")]
    Gone {
        /// The agent's process id.
        agent_pid: u32,
    },
}

/// The fields of `supervisor.json` that the check needs.
#[derive(Debug, Deserialize)]
struct StatusFile {
    state: String,
    agent_pid: Option<u32>,
    #[serde(default)]
    reason: String,
}

/// Checks the health of this host; returns its state and reason.
///
/// # Errors
/// [`HealthError`] if it is not healthy.
pub fn check(state_dir: &Path) -> Result<String, HealthError> {
    let path = state_dir.join("supervisor.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(HealthError::NoStatus { path, source }),
    };
    let Ok(status) = serde_json::from_slice::<StatusFile>(&text) else {
        return Err(HealthError::InvalidStatus { path });
    };
    match (status.state.as_str(), status.agent_pid) {
        ("running", Some(agent_pid)) if !platform::is_alive(agent_pid) => {
            Err(HealthError::Gone { agent_pid })
        }
        ("running" | "updating", _) => Ok(format!("{}: {}", status.state, status.reason)),
        _ => Err(HealthError::NotRunning { state: status.state, reason: status.reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_report(report: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("supervisor.json"), report).unwrap();
        check(dir.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn running_or_updating_agent_is_healthy_and_any_other_is_not() {
        let own = std::process::id();
        let running = format!(r#"{{"state":"running","agent_pid":{own},"reason":"first start"}}"#);
        assert_eq!(check_report(&running).unwrap(), "running: first start");
        assert!(
            check_report(r#"{"state":"updating","agent_pid":null,"reason":"to 0.2.0"}"#).is_ok()
        );
        for state in ["waiting", "parked", "stopped"] {
            let report =
                format!(r#"{{"state":"{state}","agent_pid":null,"reason":"the key was deleted"}}"#);
            let error = check_report(&report).unwrap_err();
            assert!(error.contains(state) && error.contains("the key was deleted"), "{error}");
        }
        assert!(check_report("{").unwrap_err().contains("not a supervisor's"));
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path()).unwrap_err().to_string().contains("is the supervisor running?"));
    }

    #[cfg(unix)]
    #[test]
    fn agent_whose_process_is_gone_is_not_healthy() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let report = format!(r#"{{"state":"running","agent_pid":{pid},"reason":"first start"}}"#);
        assert!(check_report(&report).unwrap_err().contains("is gone"));
    }
}
