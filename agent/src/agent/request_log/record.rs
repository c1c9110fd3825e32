//! One line of the logs: a request of the server and the agent's answer, of bounded length.

use chrono::{DateTime, Utc};
use muster_protocol::commands::command::Durability;
use muster_protocol::commands::step::MAX_STEPS;
use muster_protocol::frame::{Command, Response};
use muster_protocol::library::LIBRARY_PREFIX;
use muster_protocol::package::{AssignedItem, PACKAGE_PREFIX};
use muster_protocol::release::UpdateResult;
use muster_protocol::{CommandName, escape};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::commands::decision::CommandDecision;

/// Longest line, in bytes. The limits below keep it.
#[cfg(test)]
const MAX_LINE_BYTES: usize = 4 * 1024;
/// Longest text of a line in bytes, as escaped in JSON; a longer one is cut.
pub const MAX_TEXT_BYTES: usize = 128;
/// Longest reason of a refusal, as [`MAX_TEXT_BYTES`].
const MAX_REASON_BYTES: usize = 300;
/// Longest text of one step, as [`MAX_TEXT_BYTES`].
const MAX_STEP_BYTES: usize = 48;
/// Names of parameters of one kind in a line, in bytes as escaped in JSON; further ones are counted.
const MAX_NAMES_BYTES: usize = 330;
/// A version that the server desires, without a command.
const DESIRED_VERSION: &str = "update (desired version)";
/// What the supervisor reported about an update.
const UPDATE_RESULT: &str = "update result";
/// A package that the server assigned.
const ASSIGNMENT: &str = "assignment";
/// A new key of the agent.
pub const REKEY: &str = "rekey";

/// One request of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// By this host's clock.
    pub at: DateTime<Utc>,
    /// The name of a command, `cancel`, `rekey`, `assignment`, `update (desired version)` or `update result`.
    pub request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    /// The script of an `execute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The script, or the program, of each step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
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

/// What requests have in common that are summarised together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKind {
    /// Absent for everything that is no known command.
    request: Option<CommandName>,
    answer: Answer,
    code: Option<String>,
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
            steps: steps(data),
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

    /// A package or a script that the server wants on this host.
    pub fn assignment(item: &AssignedItem) -> Self {
        let prefix = if item.script.is_some() { LIBRARY_PREFIX } else { PACKAGE_PREFIX };
        let script = Some(shown(&format!("{prefix}{}", item.name)));
        let version = Some(shown(&item.package.version));
        Self { script, version, ..Self::accepted(ASSIGNMENT) }
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
            steps: Vec::new(),
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

    /// The command and the answer. The server chooses the names of unknown commands, so they are one kind.
    pub fn kind(&self) -> RequestKind {
        let request = self.request.parse().ok();
        RequestKind { request, answer: self.answer, code: self.code.clone() }
    }

    /// True for what restarts, replaces or stops the agent or its key.
    pub fn is_life_cycle(&self) -> bool {
        let is_life_cycle = |name: CommandName| {
            name.durability() != Durability::Transient && name != CommandName::Execute
        };
        [DESIRED_VERSION, UPDATE_RESULT, REKEY].contains(&self.request.as_str())
            || self.request.parse().is_ok_and(is_life_cycle)
    }
}

/// What the steps of an `execute` run. A host accepts no more of them.
fn steps(data: &Value) -> Vec<String> {
    let steps = data.get("steps").and_then(Value::as_array).into_iter().flatten();
    let runs = |step: &Value| {
        let text = |pointer| step.pointer(pointer).and_then(Value::as_str);
        cut(text("/script").or(text("/argv/0")).unwrap_or("?"), MAX_STEP_BYTES)
    };
    steps.take(MAX_STEPS).map(runs).collect()
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
pub mod tests {
    use super::*;
    use serde_json::json;

    /// An `execute` of a server that wants as long a line as possible.
    pub fn execute(name: &str, count: usize) -> RequestRecord {
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
                "steps": vec![json!({"script": name}); 40],
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
}
