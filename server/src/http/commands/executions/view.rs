//! The JSON form of an execution.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::commands::approval::{ApprovalState, WorkApproval, end_sentence};
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::open_state::{CurrentStep, OpenExecution, OpenReason};
use crate::domain::commands::records::ReportRecord;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, CommandId, JobId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::commands::jobs::FileTransferBody;
use crate::http::commands::steps::{KnownSteps, StepView};
use crate::http::views::{stdin_bytes, stored_json};
use crate::services::commands::Execution;
use crate::store::queries::OutputSummary;

/// One run of a script on one agent, with its result.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ExecutionView {
    id: CommandId,
    /// The job that it belongs to.
    job_id: Option<JobId>,
    agent_id: AgentId,
    /// Current name of the agent.
    agent_name: Option<String>,
    /// Since when the agent is offline; `null` while it is connected.
    agent_offline_since: Option<Timestamp>,
    /// Absent if it is an ad-hoc command. Of steps: `steps:` and all of their scripts, with `(argv)` for ad-hoc
    /// commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    /// The ad-hoc command.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    argv: Option<Value>,
    /// Its steps, with what is known of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<StepView>,
    #[schema(value_type = Object)]
    parameters: Value,
    /// Names of its secret parameters; `null` for an execution without a job.
    secret_names: Option<Vec<String>>,
    /// Bytes of standard input.
    stdin_bytes: Option<u64>,
    /// The file that it transfers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FileTransferBody>)]
    file: Option<Value>,
    state: CommandState,
    /// Why it has not ended, what happens next and when, and what a person can do; `null` once it has
    /// ended.
    explanation: Option<String>,
    /// Why it has not ended, for programs; `null` once it has ended.
    open_reason: Option<OpenReason>,
    /// When it is lost if its agent stays offline; `null` while the agent is connected, and before it was sent.
    lost_at: Option<Timestamp>,
    /// Wave of the rollout, counted from 1.
    wave: Option<i32>,
    /// Its rollout still holds it, or it waits for an approval.
    is_held: bool,
    /// The request for another person's approval, if a rule asked for one.
    approval: Option<WorkApproval>,
    trigger: Trigger,
    /// Counted from 1: its job runs it again if it fails or reaches its timeout.
    attempt: i32,
    /// The execution that this one runs again.
    retry_of: Option<CommandId>,
    /// The execution that runs this one again.
    retried_as: Option<CommandId>,
    /// An attempt is not sent before this instant.
    not_before: Option<Timestamp>,
    /// The lock that it waits for or holds.
    lock: Option<String>,
    /// The execution that holds the lock for which this one waits.
    lock_holder_id: Option<CommandId>,
    requested_by: PrincipalId,
    /// The name of the API key or the member, unless it was deleted.
    requested_by_name: Option<String>,
    requested_from: Option<String>,
    /// The id of the request that asked for it: the logs of the server and of the agent name it.
    request_id: Option<String>,
    created_at: Timestamp,
    delivered_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    cancel_requested_at: Option<Timestamp>,
    timeout_ms: i64,
    /// `null` while it is held.
    expires_at: Option<Timestamp>,
    #[serde(flatten)]
    result: ExecutionResult,
    /// When its output was dropped to make room for newer output; `null` in lists.
    output_dropped_at: Option<Timestamp>,
    /// Why it ended as it did.
    error: Option<String>,
    /// Stable code for `error`.
    error_code: Option<String>,
    /// A report that arrived after the end; it does not change the state.
    late_result: Option<LateExecutionResult>,
    /// What the agent signed about this execution, for `muster verify`; `null` in lists.
    attestation: Option<AttestationView>,
}

/// A document that an agent signed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct AttestationView {
    /// JSON, byte for byte as the agent signed it.
    document: String,
    /// Ed25519, base64.
    signature: String,
}

/// The report of the agent; every field is `null` until it reports.
#[derive(Debug, Default, Serialize, ToSchema)]
struct ExecutionResult {
    exit_code: Option<i64>,
    /// The signal that ended the script.
    signal: Option<i64>,
    /// Wall time on the host.
    duration_ms: Option<u64>,
    /// Stored output of both streams. Without a report, the output committed so far; then `null` in
    /// lists.
    output_bytes: Option<u64>,
    /// Of a run of a service: how much of the output was removed, because only the newest is kept. Absent if
    /// nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_start_bytes: Option<u64>,
    stdout_bytes: Option<u64>,
    stderr_bytes: Option<u64>,
    /// Output that was dropped on the host (limit, quota or full disk).
    dropped_bytes: Option<u64>,
    /// True if output is missing.
    is_output_incomplete: Option<bool>,
}

/// A report that arrived after the execution had ended.
#[derive(Debug, Serialize, ToSchema)]
struct LateExecutionResult {
    state: CommandState,
    #[serde(flatten)]
    result: ExecutionResult,
    error: Option<String>,
    error_code: Option<String>,
    reported_at: Timestamp,
}

impl ExecutionView {
    /// For lists: without what is only useful for one execution.
    pub(super) fn in_list(execution: Execution) -> Self {
        Self { attestation: None, ..execution.into() }
    }

    /// Adds the size of the output. Without a report it is the committed size.
    pub(super) fn with_output(mut self, output: &OutputSummary) -> Self {
        self.result.output_bytes.get_or_insert(output.length_bytes);
        // Its agent can't know that: `is_output_incomplete` is about the host.
        self.result.output_start_bytes = Some(output.start_bytes).filter(|bytes| *bytes > 0);
        self.output_dropped_at = output.dropped_at;
        self
    }
}

impl From<Execution> for ExecutionView {
    fn from(execution: Execution) -> Self {
        let Execution {
            found,
            agent_name,
            requested_by_name,
            agent_offline_since,
            secret_names,
            lock_holder,
        } = execution;
        let row = found.command;
        let approval = found.approval.as_ref();
        let pending = approval.filter(|approval| approval.state == ApprovalState::Pending);
        let data = stored_json(&row.data);
        let reported = found.report.as_ref().map(|report| stored_json(&report.data));
        let known = KnownSteps::new(row.state, reported.as_ref(), row.step_progress.as_deref());
        let steps = StepView::all(&data, &known);
        let current = known.current().and_then(|number| Some((number, steps.get(number - 1)?)));
        let open = OpenExecution {
            state: row.state,
            agent_name: agent_name.as_deref().unwrap_or("the agent"),
            offline_since: agent_offline_since,
            approval_until: pending.map(|approval| approval.expires_at),
            is_held: row.is_held,
            wave: row.wave,
            expires_at: row.expires_at,
            started_at: row.started_at,
            timeout_ms: row.timeout_ms.unsigned_abs(),
            lost_after_ms: row.lost_after_ms.unsigned_abs(),
            cancel_requested_at: row.cancel_requested_at,
            attempt: row.attempt,
            not_before: row.not_before,
            lock: row.lock.as_deref().zip(lock_holder),
            step: current.map(|(number, step)| CurrentStep {
                number,
                count: steps.len(),
                name: step.title(),
            }),
        };
        let (explanation, open_reason, lost_at) =
            (open.explanation(), open.reason(), open.lost_at());
        let (report, late) = match found.report {
            Some(report) if report.is_late => (None, Some(report)),
            report => (report, None),
        };
        let attestation = report.as_ref().and_then(|report| report.attestation.as_deref());
        let attestation = attestation.and_then(|stored| serde_json::from_str(stored).ok());
        let result = report.as_ref().map(ExecutionResult::from).unwrap_or_default();
        let (error, error_code) = match report {
            Some(report) => (report.error, report.error_code),
            None => (
                row.end_reason.map(|reason| end_sentence(reason, found.approval.as_ref())),
                row.end_reason.map(|reason| reason.as_str().to_owned()),
            ),
        };
        let stdin_bytes = stdin_bytes(&data);
        let (parameters, argv, file) = match data {
            Value::Object(mut data) => {
                (data.remove("parameters"), data.remove("argv"), data.remove("file"))
            }
            _ => (None, None, None),
        };
        Self {
            id: row.id,
            job_id: row.job_id,
            agent_id: row.agent_id,
            agent_name,
            agent_offline_since,
            script: row.script.filter(|script| !script.is_empty()),
            argv,
            steps,
            parameters: parameters.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            secret_names,
            stdin_bytes,
            file,
            state: row.state,
            explanation,
            open_reason,
            lost_at,
            wave: row.wave,
            is_held: row.is_held && row.state == CommandState::Queued,
            approval: found.approval,
            trigger: row.trigger,
            attempt: row.attempt,
            retry_of: row.retry_of,
            retried_as: row.retried_as,
            not_before: row.not_before,
            lock: row.lock,
            lock_holder_id: lock_holder,
            requested_by: row.requested_by,
            requested_by_name,
            requested_from: row.requested_from,
            request_id: row.request_id,
            created_at: row.created_at,
            delivered_at: row.delivered_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            cancel_requested_at: row.cancel_requested_at,
            timeout_ms: row.timeout_ms,
            expires_at: (row.expires_at != Timestamp::NEVER).then_some(row.expires_at),
            result,
            output_dropped_at: None,
            error,
            error_code,
            late_result: late.map(LateExecutionResult::from),
            attestation,
        }
    }
}

impl From<&ReportRecord> for ExecutionResult {
    /// Other agents may report fewer fields or other types: a value of the wrong type is left out.
    fn from(report: &ReportRecord) -> Self {
        let data = stored_json(&report.data);
        let count = |name: &str| data.get(name).and_then(Value::as_u64);
        let code = |name: &str| data.get(name).and_then(Value::as_i64);
        let is_complete = data.get("output_complete").and_then(Value::as_bool);
        Self {
            exit_code: code("exit_code"),
            signal: code("signal"),
            duration_ms: count("duration_ms"),
            output_bytes: count("output_bytes"),
            output_start_bytes: None,
            stdout_bytes: count("stdout_bytes"),
            stderr_bytes: count("stderr_bytes"),
            dropped_bytes: count("dropped_bytes"),
            is_output_incomplete: is_complete.map(|is_complete| !is_complete),
        }
    }
}

impl From<ReportRecord> for LateExecutionResult {
    fn from(report: ReportRecord) -> Self {
        Self {
            state: report.outcome,
            result: ExecutionResult::from(&report),
            error: report.error,
            error_code: report.error_code,
            reported_at: report.reported_at,
        }
    }
}
