//! What a container's health check asks from beside the supervisor: is this host on duty?
//!
//! Reads `supervisor.json` and looks whether the agent lives; asks neither the agent nor its server.
//! A server that is away and a release that is being fetched are no faults of a container, and ending
//! one for them would end its jobs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::platform;

/// Why a host is not on duty, in one line.
#[derive(Debug, thiserror::Error)]
pub enum OffDuty {
    /// No supervisor has said anything here.
    #[error("find the supervisor: {} can't be read; has it been started?", path.display())]
    NoReport {
        /// The supervisor's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something else lies there.
    #[error("understand {}: it is no supervisor's", path.display())]
    OddReport {
        /// The supervisor's file.
        path: PathBuf,
    },
    /// The agent does not run, and why.
    #[error("find an agent at work: {state}: {reason}")]
    NotRunning {
        /// As `supervisor.json` has it.
        state: String,
        /// A sentence.
        reason: String,
    },
    /// The agent was running when the supervisor last could say so.
    #[error(
        "find the agent: process {agent_pid} is gone, and the supervisor could not write that down"
    )]
    Gone {
        /// What was the agent's process.
        agent_pid: u32,
    },
}

/// What is read of `supervisor.json`.
#[derive(Debug, Deserialize)]
struct Seen {
    state: String,
    agent_pid: Option<u32>,
    #[serde(default)]
    reason: String,
}

/// A sentence on what a healthy host does.
///
/// # Errors
/// [`OffDuty`] if nobody does anything there.
pub fn look(state_dir: &Path) -> Result<String, OffDuty> {
    let path = state_dir.join("supervisor.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(OffDuty::NoReport { path, source }),
    };
    let Ok(seen) = serde_json::from_slice::<Seen>(&text) else {
        return Err(OffDuty::OddReport { path });
    };
    match (seen.state.as_str(), seen.agent_pid) {
        ("running", Some(agent_pid)) if !platform::is_alive(agent_pid) => {
            Err(OffDuty::Gone { agent_pid })
        }
        ("running" | "updating", _) => Ok(format!("{}: {}", seen.state, seen.reason)),
        _ => Err(OffDuty::NotRunning { state: seen.state, reason: seen.reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(report: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("supervisor.json"), report).unwrap();
        look(dir.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_agent_that_runs_or_is_being_updated_is_on_duty_and_any_other_is_not() {
        let own = std::process::id();
        let running = format!(r#"{{"state":"running","agent_pid":{own},"reason":"first start"}}"#);
        assert_eq!(said(&running).unwrap(), "running: first start");
        assert!(said(r#"{"state":"updating","agent_pid":null,"reason":"to 0.2.0"}"#).is_ok());
        for state in ["waiting", "parked", "stopped"] {
            let report =
                format!(r#"{{"state":"{state}","agent_pid":null,"reason":"the key was deleted"}}"#);
            let error = said(&report).unwrap_err();
            assert!(error.contains(state) && error.contains("the key was deleted"), "{error}");
        }
        assert!(said("{").unwrap_err().contains("no supervisor's"));
        let dir = tempfile::tempdir().unwrap();
        assert!(look(dir.path()).unwrap_err().to_string().contains("has it been started?"));
    }

    #[cfg(unix)]
    #[test]
    fn an_agent_that_has_gone_unnoticed_is_not_on_duty() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let report = format!(r#"{{"state":"running","agent_pid":{pid},"reason":"first start"}}"#);
        assert!(said(&report).unwrap_err().contains("is gone"));
    }
}
