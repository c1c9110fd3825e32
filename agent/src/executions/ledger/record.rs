//! The records of one command. Shims read and write them too, possibly of the previous version, so
//! fields are only added, and only as optional ones.

mod cancellation;
mod launch;
mod steps_end;

use std::collections::BTreeSet;

use muster_protocol::CommandName;
use muster_protocol::commands::attestation::{
    ATTESTATION_VERSION, Attestation, AttestedExecution, AttestedRun,
};
use muster_protocol::commands::stdin::Stdin;
use muster_protocol::frame::{ExecuteResult, Outcome, Response};
use muster_protocol::identity::AgentKeyPair;
use muster_protocol::library::{CallPart, CallReport, MAX_CALL_DATA_BYTES};
use muster_protocol::package::{ServiceHealth, ServiceLimits, TaskRun};
use muster_protocol::parameter::Parameters;
use muster_protocol::parameter::secret_parameters::SecretParameters;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use self::cancellation::{CancelRecord, CancelledBy};
pub use self::launch::{FileLaunch, Launch, LibraryLaunch, PackageLaunch, StepLaunch};
use crate::platform::BootInstant;

/// Space reserved for the exit record when a command is accepted, in bytes.
pub const EXIT_BYTES: usize = 4096;
/// Space reserved beside it for the report of a call. Quotes and backslashes of its data take two bytes.
pub const CALL_BYTES: usize = 2 * MAX_CALL_DATA_BYTES + 1024;
/// Longest message kept in an exit record, in bytes; it must fit into [`EXIT_BYTES`] with the rest.
const MAX_MESSAGE_BYTES: usize = 1024;

/// An accepted command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord {
    pub command_id: Uuid,
    pub command: CommandName,
    /// Number of commands that this ledger had accepted, this one included.
    pub acceptance_count: u64,
    /// Latest start of the child; no limit if absent.
    #[serde(default)]
    pub start_by: Option<BootInstant>,
    /// Parameter values are stored in a separate file; without it the command must not be started.
    #[serde(default)]
    pub has_parameters: bool,
    /// What to run; absent for commands that run nothing.
    #[serde(default)]
    pub launch: Option<Launch>,
    /// Set for a run that this host has started itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Box<TaskRun>>,
}

/// What a shim writes about the service that it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Absent without a check.
    #[serde(default)]
    pub health: Option<ServiceHealth>,
    /// Absent without limits.
    #[serde(default)]
    pub limits: Option<ServiceLimits>,
}

/// Parameter values and standard input, in a file of their own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ParameterRecord {
    pub parameters: Parameters,
    /// Masked in the output.
    #[serde(default, skip_serializing_if = "SecretParameters::is_empty")]
    pub secret_parameters: SecretParameters,
    /// Names of both kinds whose values are defaults of the manifest, which no request contained.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub defaults: BTreeSet<String>,
    /// What the program reads from standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stdin>,
    /// The values of each step; everything else is then empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<ParameterRecord>,
}

impl ParameterRecord {
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
            && self.secret_parameters.is_empty()
            && self.stdin.is_none()
            && self.steps.is_empty()
    }

    /// The secrets of all steps, under names of their own: the same name may have another default in each.
    pub fn all_secrets(&self) -> SecretParameters {
        let mut all = self.secret_parameters.clone();
        for (number, step) in self.steps.iter().enumerate() {
            for (name, value) in step.secret_parameters.iter() {
                all.insert(format!("{number}.{name}"), value.to_owned());
            }
        }
        all
    }
}

/// Written before the child is spawned: after that the command is never started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedRecord {
    pub boot_id: String,
    /// Also the session of the child.
    pub shim_pid: u32,
    /// Start time of the shim in system ticks; no process of this execution is older.
    pub shim_start_ticks: u64,
}

/// The process that holds an execution's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderRecord {
    pub shim_pid: u32,
    pub shim_start_ticks: u64,
}

/// The final result of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Settlement {
    /// Written by the shim.
    Exit(Box<ExitRecord>),
    /// Written by the agent: refusals, lifecycle answers, executions that never started or were
    /// lost.
    Answer { response: Response },
}

/// How a shim's work ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub ending: ExecutionEnd,
    #[serde(default)]
    pub is_timed_out: bool,
    #[serde(default)]
    pub is_cancelled: bool,
    /// Who cancelled it, before or after its start.
    #[serde(default)]
    pub cancelled_by: CancelledBy,
    /// A service was ended because its checks failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unhealthy: bool,
    pub result: ExecuteResult,
    /// What was started, for the attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<AttestedRun>,
    /// The part before the script itself that did not succeed.
    #[serde(rename = "failed_step", default, skip_serializing_if = "Option::is_none")]
    pub failed_part: Option<FailedPart>,
    /// For a script with a trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallReport>,
}

/// A process of an execution that comes before the script itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedPart {
    /// Installing what the script needs.
    Dependencies,
    Trigger,
}

impl FailedPart {
    /// The process of a part of a call.
    pub fn of(part: CallPart) -> Option<Self> {
        (part == CallPart::Trigger).then_some(Self::Trigger)
    }

    pub fn subject(part: Option<Self>) -> &'static str {
        match part {
            None => "the script",
            Some(Self::Trigger) => "the trigger of the script",
            Some(Self::Dependencies) => "the installation of the script's dependencies",
        }
    }
}

/// What happened to the direct child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum ExecutionEnd {
    /// It ran and ended; the result has the details.
    Ended,
    /// It was refused before it started.
    Refused { code: String, message: String },
    /// The system could not start it.
    NotSpawned { message: String },
    /// It was cancelled before it started.
    NeverStarted,
}

impl ExecutionEnd {
    /// A refusal with a message of bounded length.
    pub fn refused(code: &str, message: &str) -> Self {
        Self::Refused { code: code.to_owned(), message: bounded(message) }
    }

    /// A failed start with a message of bounded length.
    pub fn not_spawned(message: &str) -> Self {
        Self::NotSpawned { message: bounded(message) }
    }
}

impl Settlement {
    /// The frame that reports it.
    pub fn response(&self, command_id: Uuid) -> Response {
        match self {
            Self::Answer { response } => response.clone(),
            Self::Exit(exit) => exit.response(command_id),
        }
    }

    /// The frame that reports it, with the attestation of this agent. A function of the record, so
    /// that a repeated report has the same attestation.
    pub fn attested_response(&self, command_id: Uuid, attestor: &Attestor<'_>) -> Response {
        let response = self.response(command_id);
        let by_success = if response.success { Outcome::Succeeded } else { Outcome::Failed };
        let execution = AttestedExecution {
            version: ATTESTATION_VERSION,
            command_id,
            agent_id: attestor.agent_id,
            public_key: attestor.key_pair.public_key(),
            outcome: response.outcome.unwrap_or(by_success),
            error_code: response.error_code.clone(),
            run: match self {
                Self::Exit(exit) => exit.run.clone(),
                Self::Answer { .. } => None,
            },
            result: serde_json::from_value(response.data.clone()).ok(),
        };
        let attestation = Attestation::sign(&execution, attestor.key_pair);
        Response { attestation: Some(attestation), ..response }
    }
}

/// The agent that signs its results.
#[derive(Debug, Clone, Copy)]
pub struct Attestor<'a> {
    pub key_pair: &'a AgentKeyPair,
    pub agent_id: Uuid,
}

impl ExitRecord {
    fn response(&self, command_id: Uuid) -> Response {
        let (outcome, error_code, error) = match &self.ending {
            ExecutionEnd::Refused { code, message } => {
                (Outcome::Rejected, Some(code.as_str()), Some(message.clone()))
            }
            ExecutionEnd::NotSpawned { message } => {
                (Outcome::Failed, Some("not_started"), Some(message.clone()))
            }
            ExecutionEnd::NeverStarted => {
                let (code, text) = self.cancelled_by.not_started();
                (Outcome::Cancelled, Some(code), Some(text.to_owned()))
            }
            ExecutionEnd::Ended => self.ended(),
        };
        let has_run = matches!(self.ending, ExecutionEnd::Ended);
        Response {
            command_id,
            success: outcome == Outcome::Succeeded,
            data: if has_run { result_data(&self.result) } else { Value::Null },
            error,
            error_code: error_code.map(str::to_owned),
            outcome: Some(outcome),
            attestation: None,
            call: self.call.clone(),
        }
    }

    fn ended(&self) -> (Outcome, Option<&'static str>, Option<String>) {
        if !self.result.steps.is_empty() {
            return steps_end::ended(self);
        }
        let subject = FailedPart::subject(self.failed_part);
        if self.is_timed_out {
            let text = format!("{subject} exceeded its time limit and was ended");
            return (Outcome::TimedOut, Some("timed_out"), Some(text));
        }
        if self.is_cancelled {
            let (code, ended) = self.cancelled_by.ended();
            return (Outcome::Cancelled, Some(code), Some(format!("{subject} was {ended}")));
        }
        if self.is_unhealthy {
            let text = "the checks of the service failed, so it was ended".to_owned();
            return (Outcome::Failed, Some("unhealthy"), Some(text));
        }
        match (self.result.exit_code, self.result.signal) {
            (Some(0), _) => match self.call.as_ref().and_then(|call| call.data_problem) {
                None => (Outcome::Succeeded, None, None),
                Some(problem) => {
                    let text = format!("{problem}, so the next call gets the data from before");
                    (Outcome::Succeeded, Some("data_refused"), Some(text))
                }
            },
            (Some(code), _) => {
                let hint = match self.failed_part {
                    Some(FailedPart::Dependencies) => "; its output names the package",
                    _ => "",
                };
                let text = format!("{subject} exited with code {code}{hint}");
                let code = match self.failed_part {
                    None => "exit_code",
                    Some(FailedPart::Trigger) => "trigger_failed",
                    Some(FailedPart::Dependencies) => "dependencies_failed",
                };
                (Outcome::Failed, Some(code), Some(text))
            }
            (None, Some(signal)) => {
                let text = format!("{subject} was ended by signal {signal}");
                (Outcome::Failed, Some("signal"), Some(text))
            }
            (None, None) => (
                Outcome::Lost,
                Some("lost"),
                Some("the script's exit status is unknown".to_owned()),
            ),
        }
    }
}

/// A result as `response.data`.
pub fn result_data(result: &ExecuteResult) -> Value {
    serde_json::to_value(result).unwrap_or_default()
}

/// The response to a command that was not run.
pub fn refusal(command_id: Uuid, outcome: Outcome, code: &str, message: String) -> Response {
    Response {
        command_id,
        success: false,
        data: Value::Null,
        error: Some(message),
        error_code: Some(code.to_owned()),
        outcome: Some(outcome),
        attestation: None,
        call: None,
    }
}

fn bounded(message: &str) -> String {
    bounded_to(message, MAX_MESSAGE_BYTES)
}

/// A message of at most this size.
pub fn bounded_to(message: &str, most_bytes: usize) -> String {
    let mut end = message.len().min(most_bytes);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    // Escapes may double the size of a message in JSON; control characters take six times their
    // size.
    message[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
