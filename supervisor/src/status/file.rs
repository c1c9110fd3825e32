//! `supervisor.json` in the state directory: the supervisor's status, for `status` commands and
//! health checks.
//!
//! Knows the file's format, not what leads to a state. Losing the file harms nothing, so it is
//! replaced atomically but not synced.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::policy::ProcessExit;

/// What the supervisor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The agent runs.
    Running,
    /// The agent is restarted after `next_start_in_ms`.
    Waiting,
    /// Another version is being downloaded; no agent runs meanwhile.
    Updating,
    /// The agent must not be restarted and the supervisor waits for a stop signal: unhealthy.
    Parked,
    /// The supervisor has ended.
    Stopped,
}

/// How the latest run of the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LastExit {
    /// The exit code; absent after a signal or a failed start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The number of the signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When, by this host's clock.
    pub at: DateTime<Utc>,
}

impl LastExit {
    /// Describes `end`.
    pub fn new(end: ProcessExit, at: DateTime<Utc>) -> Self {
        match end {
            ProcessExit::Exited(code) => Self { code: Some(code), signal: None, at },
            ProcessExit::Signalled(signal) => Self { code: None, signal: Some(signal), at },
            ProcessExit::NotStarted => Self { code: None, signal: None, at },
        }
    }
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// The supervisor's own version.
    pub version: &'static str,
    /// The supervisor's process.
    pub pid: u32,
    /// The agent's process, while there is one.
    pub agent_pid: Option<u32>,
    /// What the supervisor is doing.
    pub state: State,
    /// Since when it is in this state, by this host's clock.
    pub since: DateTime<Utc>,
    /// How the latest run ended; absent before the first exit.
    pub last_exit: Option<LastExit>,
    /// The reason for the state, in one sentence.
    pub reason: String,
    /// How often this supervisor has restarted the agent.
    pub restarts: u64,
    /// While waiting: milliseconds from `since` to the next start.
    pub next_start_in_ms: Option<u64>,
}

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
pub enum StatusFileError {
    /// The status could not be encoded.
    #[error("failed to encode supervisor.json")]
    Encode(#[source] serde_json::Error),
    /// The state directory is missing, full or not writable.
    #[error("failed to write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Replaces `supervisor.json` in `state_dir`, which is not created.
///
/// # Errors
/// [`StatusFileError`]; the previous file then still exists.
pub fn write(state_dir: &Path, report: &StatusReport) -> Result<(), StatusFileError> {
    let mut text = serde_json::to_vec_pretty(report).map_err(StatusFileError::Encode)?;
    text.push(b'\n');
    let temporary = state_dir.join("supervisor.json.tmp");
    replace(&state_dir.join("supervisor.json"), &temporary, &text)
        .map_err(|source| StatusFileError::Write { path: temporary, source })
}

fn replace(path: &Path, temporary: &Path, text: &[u8]) -> io::Result<()> {
    // The directory may belong to a less privileged user: `create_new` does not follow a link of
    // that user.
    let _ = fs::remove_file(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    file.write_all(text)?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> StatusReport {
        StatusReport {
            version: "0.1.0",
            pid: 7,
            agent_pid: None,
            state: State::Waiting,
            since: DateTime::UNIX_EPOCH,
            last_exit: Some(LastExit::new(ProcessExit::Signalled(9), DateTime::UNIX_EPOCH)),
            reason: "ended by signal 9".into(),
            restarts: 3,
            next_start_in_ms: Some(1500),
        }
    }

    #[test]
    fn file_is_replaced_atomically_and_has_the_documented_fields() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("supervisor.json"), "something longer than before".repeat(99))
            .unwrap();
        write(dir.path(), &report()).unwrap();

        let text = fs::read_to_string(dir.path().join("supervisor.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "version": "0.1.0", "pid": 7, "agent_pid": null, "state": "waiting",
                "since": "1970-01-01T00:00:00Z",
                "last_exit": {"signal": 9, "at": "1970-01-01T00:00:00Z"},
                "reason": "ended by signal 9", "restarts": 3, "next_start_in_ms": 1500,
            })
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn missing_directory_is_an_error_and_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere");
        assert!(write(&missing, &report()).is_err());
        assert!(!missing.exists());
    }

    #[cfg(unix)]
    #[test]
    fn link_at_the_temporary_path_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("supervisor.json.tmp")).unwrap();
        write(dir.path(), &report()).unwrap();
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }
}
