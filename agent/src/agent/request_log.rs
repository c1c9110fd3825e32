//! What the server asked for lately, for the owner of the host, in the state directory.
//!
//! A line of JSON for each durable command, cancellation, replacement of the key, desired version
//! and result of an update, with the agent's answer. Three logs, so that none pushes out another:
//! `requests.log` (accepted), `requests-refused.log`, and `requests-life-cycle.log` for what
//! restarts, replaces or stops the agent or its key. Each has two files of bounded size: the newer
//! one replaces the older one when it is full. A line is bounded too. No values of parameters are
//! written. Texts of the server are escaped, so that they can be shown on a terminal. The logs are
//! for people: nothing is decided by them, and a full disk loses lines.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use muster_protocol::command::Durability;
use muster_protocol::frame::{Command, Response};
use muster_protocol::release::UpdateResult;
use muster_protocol::{CommandName, escape};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::commands::decision::CommandDecision;
use crate::storage::layout::StateDir;

/// Size at which a file is set aside, in bytes.
const MAX_FILE_BYTES: u64 = 512 * 1024;
/// Longest line, in bytes. The limits below keep it.
#[cfg(test)]
const MAX_LINE_BYTES: usize = 2 * 1024;
/// Longest text of a line in bytes, as escaped in JSON; a longer one is cut.
const MAX_TEXT_BYTES: usize = 128;
/// Longest reason of a refusal, as [`MAX_TEXT_BYTES`].
const MAX_REASON_BYTES: usize = 300;
/// Names of parameters of one kind in a line, in bytes as escaped in JSON; further ones are counted.
const MAX_NAMES_BYTES: usize = 330;
/// Time in which life-cycle requests with the same answer are written once and then counted.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// The code of refusals that are written once, however many follow each other.
const FLOOD: &str = "too_many_commands";
/// A version that the server desires, without a command.
const DESIRED_VERSION: &str = "update (desired version)";
/// What the supervisor reported about an update.
const UPDATE_RESULT: &str = "update result";
/// A new key of the agent.
pub const REKEY: &str = "rekey";

/// One request of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// By this host's clock.
    pub at: DateTime<Utc>,
    /// The name of a command, `cancel`, `rekey`, `update (desired version)` or `update result`.
    pub request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    /// The script of an `execute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The program of an ad-hoc command; its arguments are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The version of an update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Names of parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// Names of secret parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_parameters: Vec<String>,
    /// Parameters of both kinds whose names are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_parameters: u64,
    /// Requests like this one since the last line about them, which have no line of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u64,
    pub answer: Answer,
    /// The stable code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the agent did about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
        let text = |pointer: &str| data.pointer(pointer).and_then(Value::as_str).map(shown);
        let (parameters, more) = names(data.get("parameters"));
        let (secret_parameters, more_secret) = names(data.get("secret_parameters"));
        let record = Self {
            command_id: Some(command.command_id),
            script: text("/script"),
            program: text("/argv/0"),
            version: text("/version"),
            parameters,
            secret_parameters,
            more_parameters: more + more_secret,
            ..Self::accepted(&command.command)
        };
        Some(match refusal {
            Some(response) => record.refused_with(response),
            None => record,
        })
    }

    /// A version that the server desires, accepted.
    pub fn desired_version(version: &str) -> Self {
        Self { version: Some(shown(version)), ..Self::accepted(DESIRED_VERSION) }
    }

    /// How an update ended.
    pub fn update_result(result: &UpdateResult) -> Self {
        let version = Some(shown(&result.to_version));
        let record = Self { version, ..Self::accepted(UPDATE_RESULT) };
        match result.outcome.is_success() {
            true => record,
            false => record.refused(result.code.as_deref().unwrap_or("failed"), &result.message),
        }
    }

    /// A request that was accepted.
    pub fn accepted(request: &str) -> Self {
        Self {
            at: Utc::now(),
            request: shown(request),
            command_id: None,
            script: None,
            program: None,
            version: None,
            parameters: Vec::new(),
            secret_parameters: Vec::new(),
            more_parameters: 0,
            unlisted: 0,
            answer: Answer::Accepted,
            code: None,
            reason: None,
        }
    }

    /// The same request, refused.
    pub fn refused(self, code: &str, reason: &str) -> Self {
        let (code, reason) = (Some(shown(code)), Some(cut(reason, MAX_REASON_BYTES)));
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

    /// True for what restarts, replaces or stops the agent or its key.
    fn is_life_cycle(&self) -> bool {
        let is_life_cycle = |name: CommandName| {
            name.durability() != Durability::Transient && name != CommandName::Execute
        };
        [DESIRED_VERSION, UPDATE_RESULT, REKEY].contains(&self.request.as_str())
            || self.request.parse().is_ok_and(is_life_cycle)
    }
}

/// Writes the logs.
#[derive(Debug)]
pub struct RequestLog {
    accepted: LogFile,
    refused: LogFile,
    life_cycle: LogFile,
    is_flooded: bool,
    /// When each kind of life-cycle request was last written, and how many followed.
    repeats: BTreeMap<(String, Answer, Option<String>), (Instant, u64)>,
}

impl RequestLog {
    /// Prepares the logs of this state directory; a file is created with its first line.
    pub fn new(state: &StateDir) -> Self {
        let [accepted, refused, life_cycle] = state.requests().map(LogFile::new);
        Self { accepted, refused, life_cycle, is_flooded: false, repeats: BTreeMap::new() }
    }

    /// Appends a record. A line survives the end of the agent's process; a refusal and a life-cycle
    /// request also survive a power loss. What else was accepted is in the ledger.
    pub fn append(&mut self, record: &RequestRecord) {
        if record.is_life_cycle() {
            self.append_life_cycle(record, Instant::now());
            return;
        }
        let is_flood = record.code.as_deref() == Some(FLOOD);
        if is_flood && self.is_flooded {
            return;
        }
        self.is_flooded = is_flood;
        match record.answer {
            Answer::Accepted => self.accepted.append(record, false),
            Answer::Refused => self.refused.append(record, !is_flood),
        }
    }

    fn append_life_cycle(&mut self, record: &RequestRecord, now: Instant) {
        let kind = (record.request.clone(), record.answer, record.code.clone());
        let unlisted = match self.repeats.get_mut(&kind) {
            Some((at, count)) if now.duration_since(*at) < REPEAT_INTERVAL => {
                *count += 1;
                return;
            }
            Some((_, count)) => *count,
            None => 0,
        };
        self.repeats.insert(kind, (now, 0));
        self.life_cycle.append(&RequestRecord { unlisted, ..record.clone() }, true);
    }
}

/// One log of two files.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl LogFile {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None, bytes: 0 }
    }

    fn append(&mut self, record: &RequestRecord, is_synced: bool) {
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

/// The newest records of all logs, newest first. Lines that can't be read are skipped.
///
/// # Errors
/// The system's error for a file that exists.
pub fn read_newest(state: &StateDir, count: usize) -> io::Result<Vec<RequestRecord>> {
    let mut newest = Vec::new();
    for log in state.requests() {
        let mut of_log = Vec::new();
        for path in [&log, &older(&log)] {
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let lines = bytes.split(|byte| *byte == b'\n').rev();
            let records = lines.filter_map(|line| serde_json::from_slice(line).ok());
            of_log.extend(records.take(count - of_log.len()));
        }
        newest.append(&mut of_log);
    }
    newest.sort_by_key(|record: &RequestRecord| std::cmp::Reverse(record.at));
    newest.truncate(count);
    Ok(newest)
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The names that fit into a line, and the number of the others.
fn names(parameters: Option<&Value>) -> (Vec<String>, u64) {
    let (mut listed, mut more, mut bytes) = (Vec::new(), 0, 0);
    let names = parameters.and_then(Value::as_object).into_iter().flat_map(|names| names.keys());
    for name in names {
        let name = shown(name);
        // With its quotes and its comma.
        bytes += json_bytes(&name) + 3;
        if more == 0 && bytes <= MAX_NAMES_BYTES {
            listed.push(name);
        } else {
            more += 1;
        }
    }
    (listed, more)
}

/// A text of bounded length in which nothing can act on a terminal.
fn shown(text: &str) -> String {
    cut(text, MAX_TEXT_BYTES)
}

fn cut(text: &str, max_bytes: usize) -> String {
    let (mut shown, mut bytes) = (String::new(), 0);
    for character in text.chars() {
        let escaped = escape::for_terminal(character.encode_utf8(&mut [0; 4]));
        bytes += json_bytes(&escaped);
        if bytes > max_bytes {
            shown.push('…');
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

/// Size of an escaped text in JSON, where quotes and backslashes are escaped.
fn json_bytes(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state() -> (tempfile::TempDir, StateDir) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        (folder, state)
    }

    fn requests(state: &StateDir, count: usize) -> Vec<String> {
        let newest = read_newest(state, count).expect("readable");
        newest.into_iter().map(|record| record.request).collect()
    }

    fn bytes_of(state: &StateDir) -> u64 {
        let paths = state.requests().into_iter().flat_map(|path| [older(&path), path]);
        paths.map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum()
    }

    #[test]
    fn the_log_is_bounded_and_its_newest_lines_are_read_back_in_order() {
        let (_folder, state) = state();
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
        let expected: Vec<_> =
            (241..=300).rev().map(|number| format!("command {number}")).collect();
        assert_eq!(requests(&state, 60), expected);
        assert!(bytes_of(&state) < 2 * MAX_FILE_BYTES + 100_000);
    }

    #[test]
    fn a_flood_of_refusals_takes_one_line_and_texts_of_the_server_are_escaped() {
        let (_folder, state) = state();
        let mut log = RequestLog::new(&state);
        let refused = RequestRecord::accepted("execute").refused(FLOOD, "full");
        for _ in 0..100 {
            log.append(&refused);
        }
        log.append(&RequestRecord::accepted("\u{1b}[2J\u{202e}evil"));
        assert_eq!(requests(&state, 10), ["\\u{1b}[2J\\u{202e}evil", "execute"]);
    }

    /// An `execute` of a server that wants as long a line as possible.
    fn execute(name: &str, count: usize) -> RequestRecord {
        let parameters: serde_json::Map<_, _> =
            (0..count).map(|number| (format!("{name}{number:03}"), json!(""))).collect();
        let response = crate::executions::ledger::record::refusal(
            Uuid::from_u128(u128::MAX),
            muster_protocol::frame::Outcome::Rejected,
            name,
            name.to_owned(),
        );
        let command = Command {
            command_id: Uuid::from_u128(u128::MAX),
            command: name.to_owned(),
            data: json!({
                "script": name, "argv": [name], "version": name,
                "parameters": parameters, "secret_parameters": parameters,
            }),
            ..serde_json::from_value(json!({
                "command_id": Uuid::nil(), "command": "execute", "timestamp": "",
            }))
            .expect("a command")
        };
        RequestRecord::of(&command, &CommandDecision::Refuse(response)).expect("recorded")
    }

    #[test]
    fn a_line_is_bounded_and_counts_the_names_that_it_leaves_out() {
        for name in ["a", "\u{1b}", "\"\\", "日本", "\u{10ffff}"] {
            for length in [1, 50, 500, 5_000] {
                let record = execute(&name.repeat(length), 40);
                let listed = record.parameters.len() + record.secret_parameters.len();
                assert_eq!(listed as u64 + record.more_parameters, 80, "{name:?} {length}");
                let record = RequestRecord { unlisted: u64::MAX, ..record };
                let line = serde_json::to_vec(&record).expect("JSON");
                assert!(line.len() < MAX_LINE_BYTES, "{name:?} {length}: {}", line.len());
            }
        }
    }

    #[test]
    fn no_flood_pushes_a_life_cycle_request_out() {
        let (_folder, state) = state();
        let mut log = RequestLog::new(&state);
        let shutdown = RequestRecord::accepted("shutdown").refused("forbidden_by_policy", "no");
        log.append(&shutdown);
        let long = "x".repeat(MAX_TEXT_BYTES);
        let refused = RequestRecord { script: Some(long), ..execute("unknown", 40) };
        for _ in 0..3_000 {
            // As `append` does, without a sync.
            log.refused.append(&refused, false);
            log.append(&shutdown);
        }
        log.append(&refused);
        let life_cycle = fs::read_to_string(&state.requests()[2]).expect("the log");
        assert_eq!(life_cycle.lines().count(), 1, "{life_cycle}");
        assert!(bytes_of(&state) < 3 * MAX_FILE_BYTES);
        // The repeated ones are counted by the next line.
        log.append_life_cycle(&shutdown, Instant::now() + REPEAT_INTERVAL);
        let life_cycle = fs::read_to_string(&state.requests()[2]).expect("the log");
        assert!(life_cycle.ends_with("\n") && life_cycle.contains("\"unlisted\":3000"));
    }
}
