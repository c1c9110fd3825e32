//! What the server asked for lately, for the owner of the host: `requests.log` in the state
//! directory.
//!
//! A line of JSON for each durable command, cancellation and replacement of the key, with the
//! agent's answer. Two files of bounded size: the newer one replaces the older one when it is full.
//! No values of parameters are written. Texts of the server are escaped, so that they can be shown
//! on a terminal. The log is for people: nothing is decided by it, and a full disk loses lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use muster_protocol::command::Durability;
use muster_protocol::frame::{Command, Response};
use muster_protocol::{CommandName, escape};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::commands::decision::CommandDecision;
use crate::storage::layout::StateDir;

/// Size at which a file is set aside, in bytes.
const MAX_FILE_BYTES: u64 = 512 * 1024;
/// Longest text of a line, in characters.
const MAX_TEXT_CHARS: usize = 300;
/// Most names of parameters in a line.
const MAX_NAMES: usize = 32;
/// The code of refusals that are written once, however many follow each other.
const FLOOD: &str = "too_many_commands";

/// One request of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// By this host's clock.
    pub at: DateTime<Utc>,
    /// The name of a command, `cancel` or `rekey`.
    pub request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    /// The script of an `execute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The program of an ad-hoc command; its arguments are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Names of parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// Names of secret parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_parameters: Vec<String>,
    pub answer: Answer,
    /// The stable code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the agent did about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Accepted,
    Refused,
}

impl RequestRecord {
    /// The record of a command; `None` for commands that are not recorded: transient ones, and
    /// those that the agent knows already.
    pub fn of(command: &Command, decision: &CommandDecision) -> Option<Self> {
        let name = command.command.parse::<CommandName>().ok();
        if name.is_some_and(|name| name.durability() == Durability::Transient) {
            return None;
        }
        let refusal = match decision {
            CommandDecision::Repeat(_) => return None,
            CommandDecision::Answer(response) | CommandDecision::Refuse(response) => Some(response),
            CommandDecision::Accept(_)
            | CommandDecision::Update { .. }
            | CommandDecision::End { .. } => None,
        };
        let data = &command.data;
        let record = Self {
            command_id: Some(command.command_id),
            script: data.get("script").and_then(Value::as_str).map(shown),
            program: data.pointer("/argv/0").and_then(Value::as_str).map(shown),
            parameters: names(data.get("parameters")),
            secret_parameters: names(data.get("secret_parameters")),
            ..Self::accepted(&command.command)
        };
        Some(match refusal {
            Some(response) => record.refused_with(response),
            None => record,
        })
    }

    /// A request that was accepted.
    pub fn accepted(request: &str) -> Self {
        Self {
            at: Utc::now(),
            request: shown(request),
            command_id: None,
            script: None,
            program: None,
            parameters: Vec::new(),
            secret_parameters: Vec::new(),
            answer: Answer::Accepted,
            code: None,
            reason: None,
        }
    }

    /// The same request, refused.
    pub fn refused(self, code: &str, reason: &str) -> Self {
        let (code, reason) = (Some(shown(code)), Some(shown(reason)));
        Self { answer: Answer::Refused, code, reason, ..self }
    }

    fn refused_with(self, response: &Response) -> Self {
        let code = response.error_code.as_deref().unwrap_or("refused");
        // Errors about malformed data may quote it.
        let reason = match code {
            "invalid_data" => "the data of the command is invalid",
            _ => response.error.as_deref().unwrap_or_default(),
        };
        self.refused(code, reason)
    }
}

/// Writes the log.
#[derive(Debug)]
pub struct RequestLog {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    is_flooded: bool,
}

impl RequestLog {
    /// Prepares the log of this state directory; the file is created with its first line.
    pub fn new(state: &StateDir) -> Self {
        Self { path: state.requests(), file: None, bytes: 0, is_flooded: false }
    }

    /// Appends a record. A line survives the end of the agent's process, and a refusal also a power
    /// loss. What was accepted is in the ledger.
    pub fn append(&mut self, record: &RequestRecord) {
        let is_flood = record.code.as_deref() == Some(FLOOD);
        if is_flood && self.is_flooded {
            return;
        }
        self.is_flooded = is_flood;
        let is_synced = record.answer == Answer::Refused && !is_flood;
        if let Err(error) = self.write(record, is_synced) {
            self.file = None;
            tracing::warn!(path = %self.path.display(), %error, "failed to record a request");
        }
    }

    fn write(&mut self, record: &RequestRecord, is_synced: bool) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if self.bytes >= MAX_FILE_BYTES {
            self.file = None;
            fs::rename(&self.path, older(&self.path))?;
        }
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let file = options.create(true).append(true).mode(0o600).open(&self.path)?;
            self.bytes = file.metadata()?.len();
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&line)?;
        self.bytes += line.len() as u64;
        if is_synced { file.sync_data() } else { Ok(()) }
    }
}

/// The newest records, newest first. Lines that can't be read are skipped.
///
/// # Errors
/// The system's error for a file that exists.
pub fn read_newest(state: &StateDir, count: usize) -> io::Result<Vec<RequestRecord>> {
    let path = state.requests();
    let mut newest = Vec::new();
    for path in [&path, &older(&path)] {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let lines = bytes.split(|byte| *byte == b'\n').rev();
        let records = lines.filter_map(|line| serde_json::from_slice(line).ok());
        newest.extend(records.take(count - newest.len()));
    }
    Ok(newest)
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

fn names(parameters: Option<&Value>) -> Vec<String> {
    let names = parameters.and_then(Value::as_object).into_iter().flat_map(|names| names.keys());
    names.take(MAX_NAMES).map(|name| shown(name)).collect()
}

/// A text of bounded length in which nothing can act on a terminal.
fn shown(text: &str) -> String {
    escape::for_terminal(&text.chars().take(MAX_TEXT_CHARS).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_its_newest_lines_are_read_back_in_order() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        assert_eq!(read_newest(&state, 3).expect("no log yet"), []);
        let record = |number: u32| RequestRecord {
            parameters: vec!["P".repeat(300); 32],
            ..RequestRecord::accepted(&format!("command {number}"))
        };
        let mut log = RequestLog::new(&state);
        for number in 0..300 {
            log.append(&record(number));
        }
        // A later process continues it.
        RequestLog::new(&state).append(&record(300));
        let newest = read_newest(&state, 60).expect("readable");
        let requests: Vec<_> = newest.iter().map(|record| record.request.clone()).collect();
        let expected: Vec<_> =
            (241..=300).rev().map(|number| format!("command {number}")).collect();
        assert_eq!(requests, expected);
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let path = state.requests();
        assert!(bytes(&path) + bytes(&older(&path)) < 2 * MAX_FILE_BYTES + 100_000);
    }

    #[test]
    fn a_flood_of_refusals_takes_one_line_and_texts_of_the_server_are_escaped() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let mut log = RequestLog::new(&state);
        let refused = RequestRecord::accepted("execute").refused(FLOOD, "full");
        for _ in 0..100 {
            log.append(&refused);
        }
        log.append(&RequestRecord::accepted("\u{1b}[2J\u{202e}evil"));
        let newest = read_newest(&state, 10).expect("readable");
        let requests: Vec<_> = newest.iter().map(|record| record.request.as_str()).collect();
        assert_eq!(requests, ["\\u{1b}[2J\\u{202e}evil", "execute"]);
    }
}
