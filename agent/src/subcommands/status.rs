//! `muster-agent status`: reads the state of an agent from its state directory. Creates nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::InspectError;
use super::open_executions::{OpenExecution, open_executions};
use crate::agent::status_file::AgentStatus;
use crate::platform::{FileLock, ProcessStat};
use crate::storage::layout::StateDir;

/// How often the files are read until two reads agree.
const MAX_READS: usize = 5;

/// The state of an agent.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct HostReport {
    pub state: AgentState,
    pub state_dir: String,
    /// The last status that an agent wrote; absent if there is none.
    pub agent: Option<AgentStatus>,
    /// Absent without a supervisor.
    pub supervisor: Option<Supervisor>,
    /// Running executions, oldest first.
    pub executions: Vec<OpenExecution>,
}

/// The overall state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    Connected,
    /// An agent is running and has no session.
    Disconnected,
    Stopped,
}

/// The fields that are read from the supervisor's file; others are ignored.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    #[serde(default)]
    pub pid: u32,
    pub state: String,
    #[serde(default)]
    pub restarts: u64,
    #[serde(default)]
    pub last_exit: Option<LastExit>,
    #[serde(default)]
    pub reason: String,
}

impl Supervisor {
    /// Replaces the state in the file if the process is gone and did not record it.
    fn checked(self) -> Self {
        let lives = ProcessStat::of(self.pid).is_some_and(|process| !process.is_zombie);
        if lives || self.state == "stopped" {
            return self;
        }
        Self { state: "gone".into(), reason: "the process was killed".into(), ..self }
    }
}

/// How the agent's last process ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    #[serde(default)]
    pub code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
    pub at: DateTime<Utc>,
}

impl AgentState {
    /// The exit status of the subcommand.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Disconnected => 3,
            Self::Stopped => 4,
        }
    }
}

impl HostReport {
    /// Reads the state of the agent of a state directory.
    ///
    /// # Errors
    /// [`InspectError`] if this user may not read it.
    pub fn read(state_dir: &Path) -> Result<Self, InspectError> {
        let state = StateDir::at(state_dir);
        let mut report = Self::read_once(&state)?;
        // The files change one by one during a restart, and together would show a state that never was.
        for _ in 1..MAX_READS {
            let again = Self::read_once(&state)?;
            if again == report {
                break;
            }
            report = again;
        }
        Ok(report)
    }

    fn read_once(state: &StateDir) -> Result<Self, InspectError> {
        let lock = state.lock();
        let is_running = FileLock::is_held(&lock).map_err(InspectError::of(&lock))?;
        let agent: Option<AgentStatus> = read(&state.status());
        let is_connected = agent.as_ref().is_some_and(|agent| agent.connected_since.is_some());
        let mut executions = Vec::new();
        for execution in open_executions(state)? {
            if execution.is_running()? {
                executions.push(execution);
            }
        }
        Ok(Self {
            state: match (is_running, is_connected) {
                (true, true) => AgentState::Connected,
                (true, false) => AgentState::Disconnected,
                (false, _) => AgentState::Stopped,
            },
            state_dir: state.path().display().to_string(),
            agent,
            supervisor: read(&state.supervisor()).map(Supervisor::checked),
            executions,
        })
    }

    /// Text for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name:<11} {value}");
        };
        match (&self.agent, self.state) {
            (Some(agent), AgentState::Stopped) => {
                line("agent", format!("muster-agent {}, not running", agent.version));
            }
            (Some(agent), _) => {
                let since = format_instant(agent.started_at);
                line("agent", format!("muster-agent {}, running since {since}", agent.version));
            }
            (None, AgentState::Stopped) => line("agent", "not running".to_owned()),
            (None, _) => line("agent", "running, no details yet".to_owned()),
        }
        line("state in", self.state_dir.clone());
        if let Some(agent) = &self.agent {
            line("server", agent.server_url.clone());
            let id = agent.agent_id.map_or("not enrolled yet".to_owned(), |id| id.to_string());
            line("identity", format!("{id} on {}", agent.hostname));
            if let Some(fingerprint) = &agent.fingerprint {
                line("key pair", fingerprint.to_string());
            }
            line("connected", self.connection(agent));
            if agent.tags_ignored {
                line(
                    "tags",
                    "ignored, because the agent key does not trust its holders".to_owned(),
                );
            }
        }
        match self.executions.len() {
            0 => line("executions", "none running".to_owned()),
            count => line("executions", format!("{count} running")),
        }
        for execution in &self.executions {
            let since = execution.started_at.map(format_instant).unwrap_or_default();
            line("", format!("{} since {since}", execution.title()));
        }
        if let Some(supervisor) = &self.supervisor {
            line("supervisor", format!("{}: {}", supervisor.state, supervisor.reason));
            line("restarts", supervisor.restarts.to_string());
            let exit = supervisor.last_exit.as_ref();
            line("last exit", exit.map_or("none".to_owned(), LastExit::text));
        }
        text
    }

    fn connection(&self, agent: &AgentStatus) -> String {
        if let (AgentState::Connected, Some(since)) = (self.state, agent.connected_since) {
            let transport = agent.transport.as_deref().unwrap_or("an unknown transport");
            return format!("since {} over {transport}", format_instant(since));
        }
        match &agent.last_error {
            Some(error) => format!("no, since {}: {}", format_instant(error.since), error.message),
            None => "no".to_owned(),
        }
    }
}

impl LastExit {
    fn text(&self) -> String {
        let how = match (self.code, self.signal) {
            (Some(code), _) => format!("code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "could not be started".to_owned(),
        };
        format!("{how} at {}", format_instant(self.at))
    }
}

fn format_instant(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A file that is missing or invalid counts as absent.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
