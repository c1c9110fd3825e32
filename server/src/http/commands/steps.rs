//! Steps in bodies and views of jobs, schedules and executions.

use muster_protocol::commands::step::{OnFailure, StepResult, StepState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::name::clean;
use crate::domain::time::Timestamp;

/// Longest reason of a host why a step could not start, in characters.
const MAX_STEP_ERROR_CHARS: usize = 300;

/// One step. Send exactly one of `script` and `argv`. All steps are checked before the first one starts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "services read the JSON, as they do for commands; this documents it")]
pub(in crate::http) struct StepBody {
    /// For people: 1 to 64 characters.
    name: Option<String>,
    /// Name of a script in the hosts' manifests, or of the library. A package can't be a step.
    script: Option<String>,
    /// A program and its arguments. Needs hosts with the policy `shell` and the scope `commands:shell`.
    argv: Option<Vec<String>>,
    /// Object of strings, for this step alone.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Names in `secret_parameters` that this step gets. Each of them must go to at least one step.
    secrets: Option<Vec<String>>,
    /// How long this step may run: at most 7 days, default 1 h, and never longer than all steps together.
    timeout_ms: Option<u64>,
    /// Whether the next step runs if this one does not succeed: `stop` (default) or `continue`. The execution has
    /// failed in both cases.
    #[schema(value_type = Option<String>)]
    on_failure: Option<OnFailure>,
}

/// A step as it was requested.
#[derive(Debug, Default, Clone, Serialize, Deserialize, ToSchema)]
pub(in crate::http) struct RequestedStep {
    name: Option<String>,
    script: Option<String>,
    argv: Option<Vec<String>>,
    #[serde(default = "empty")]
    #[schema(value_type = Object)]
    parameters: Value,
    /// Names of the secret parameters that it gets.
    #[serde(default)]
    secrets: Vec<String>,
    timeout_ms: Option<u64>,
    /// `stop` or `continue`.
    #[serde(default)]
    #[schema(value_type = String)]
    on_failure: OnFailure,
}

/// A step of an execution.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct StepView {
    name: Option<String>,
    script: Option<String>,
    argv: Option<Vec<String>>,
    #[schema(value_type = Object)]
    parameters: Value,
    /// Names of the secret parameters that it gets.
    secrets: Vec<String>,
    timeout_ms: Option<u64>,
    /// `stop` or `continue`.
    #[schema(value_type = String)]
    on_failure: OnFailure,
    /// `succeeded`, `failed`, `timed_out`, `cancelled` or `skipped`; `null` until the agent reports.
    #[schema(value_type = Option<String>)]
    state: Option<StepState>,
    exit_code: Option<i32>,
    /// The signal that ended it.
    signal: Option<i32>,
    /// By the host's clock.
    started_at: Option<Timestamp>,
    duration_ms: Option<u64>,
    /// Where its output begins in the output of the execution, both streams.
    output_from_bytes: Option<u64>,
    /// Where its output ends.
    output_to_bytes: Option<u64>,
    /// Why it could not be started.
    error: Option<String>,
}

impl RequestedStep {
    /// The steps in the data of a command.
    pub(in crate::http) fn all(data: &Value) -> Vec<Self> {
        let steps = data.get("steps").and_then(Value::as_array).into_iter().flatten();
        steps.map(|step| Self::deserialize(step).unwrap_or_default()).collect()
    }
}

impl StepView {
    /// The steps in the data of a command, with what its agent reported about them.
    pub(in crate::http) fn all(data: &Value, reported: Option<&Value>) -> Vec<Self> {
        let reported = |number: usize| reported.and_then(|reported| reported.get(number));
        let requested = RequestedStep::all(data).into_iter().enumerate();
        requested.map(|(number, step)| Self::new(step, reported(number))).collect()
    }

    /// A report of another form than that of an agent counts as none.
    fn new(requested: RequestedStep, reported: Option<&Value>) -> Self {
        let reported = reported.and_then(|reported| StepResult::deserialize(reported).ok());
        let result = reported.as_ref();
        let at = result.and_then(|result| result.started_at_ms);
        Self {
            name: requested.name,
            script: requested.script,
            argv: requested.argv,
            parameters: requested.parameters,
            secrets: requested.secrets,
            timeout_ms: requested.timeout_ms,
            on_failure: requested.on_failure,
            state: result.map(|result| result.state),
            exit_code: result.and_then(|result| result.exit_code),
            signal: result.and_then(|result| result.signal),
            started_at: at.and_then(|at| i64::try_from(at).ok()).map(Timestamp),
            duration_ms: result.and_then(|result| result.duration_ms),
            output_from_bytes: result.map(|result| result.from_bytes),
            output_to_bytes: result.map(|result| result.to_bytes),
            error: reported.and_then(|result| Some(clean(&result.error?, MAX_STEP_ERROR_CHARS))),
        }
    }
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}
