//! `status.json` in the state directory: the agent's connection state, for `status` and for health
//! checks.
//!
//! The file is advisory: losing it does no harm, so it is replaced atomically but never synced. The
//! lock of the state directory, and never this file, shows whether an agent is running.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use muster_protocol::frame::Registered;
use muster_protocol::identity::Fingerprint;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::storage::layout::StateDir;

/// The file's content. Instants are by this host's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    pub version: String,
    /// For people only; the system may have reused the number for another process.
    pub pid: u32,
    /// Without the agent key.
    pub server_url: String,
    /// Absent before enrolment.
    pub agent_id: Option<Uuid>,
    /// Of the agent's public key, to compare with what the server shows. Absent while it starts.
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
    pub hostname: String,
    pub started_at: DateTime<Utc>,
    /// `websocket` or `http`, while connected.
    pub transport: Option<String>,
    pub connected_since: Option<DateTime<Utc>>,
    /// The agent enrolled with tags, and its key does not let hosts choose tags.
    #[serde(default)]
    pub tags_ignored: bool,
    /// The limits that the agent runs with; absent in files of older agents.
    #[serde(default)]
    pub limits: Option<ReportedLimits>,
    /// Why the agent is not connected, once that is known.
    pub last_error: Option<LastError>,
}

/// The configured limits of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedLimits {
    pub max_executions: u32,
    pub output_limit_bytes: u64,
    pub output_quota_bytes: u64,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// The most recent reason, as a sentence.
    pub message: String,
    /// When the last session ended; later reasons do not change it.
    pub since: DateTime<Utc>,
}

/// Writes the status file of a running agent.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    status: AgentStatus,
}

impl StatusFile {
    /// Creates the status file of an agent that is starting.
    pub fn create(state: &StateDir, server_url: String, limits: ReportedLimits) -> Self {
        let status = AgentStatus {
            version: muster_protocol::program::version::own().to_owned(),
            pid: std::process::id(),
            server_url,
            agent_id: None,
            fingerprint: None,
            hostname: crate::platform::hostname(),
            started_at: Utc::now(),
            transport: None,
            connected_since: None,
            tags_ignored: false,
            limits: Some(limits),
            last_error: None,
        };
        let status_file = Self { path: state.status(), status };
        status_file.write();
        status_file
    }

    /// Records the identity that was read from the state directory.
    pub fn set_identity(&mut self, agent_id: Option<Uuid>, fingerprint: Fingerprint) {
        self.status.agent_id = agent_id;
        self.status.fingerprint = Some(fingerprint);
        self.write();
    }

    /// Records that a session is registered.
    pub fn set_connected(&mut self, transport: &str, registered: &Registered) {
        self.status.agent_id = Some(registered.agent_id);
        self.status.tags_ignored |= registered.tags_ignored;
        self.status.transport = Some(transport.to_owned());
        self.status.connected_since = Some(Utc::now());
        self.status.last_error = None;
        self.write();
    }

    /// Records that a session has ended or could not be opened.
    pub fn set_disconnected(&mut self, message: String) {
        let since = self.status.last_error.take().map_or_else(Utc::now, |error| error.since);
        self.status.transport = None;
        self.status.connected_since = None;
        self.status.last_error = Some(LastError { message, since });
        self.write();
    }

    fn write(&self) {
        if let Err(error) = self.replace() {
            tracing::warn!(path = %self.path.display(), %error, "failed to write the status file");
            // No status is better than an old one, which would be wrong.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn replace(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.status)?;
        text.push(b'\n');
        let fresh = self.path.with_extension("json.new");
        let _ = fs::remove_file(&fresh);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&fresh)?.write_all(&text)?;
        fs::rename(&fresh, &self.path)
    }
}
