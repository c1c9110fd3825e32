//! Steps in bodies and views of jobs, schedules and executions.

use muster_protocol::commands::step::{
    OnFailure, RunningStep, StepProgress, StepResult, StepState,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::commands::command_state::CommandState;
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
    /// `running`; `succeeded`, `failed`, `timed_out`, `cancelled` or `skipped` once it has ended; `unknown` if the
    /// execution is lost and nothing is known of its end. `null` while it waits for its turn, and of an execution
    /// that ended without a report of its steps.
    #[schema(value_type = Option<String>)]
    state: Option<ShownStepState>,
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

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum ShownStepState {
    Running,
    Unknown,
    #[serde(untagged)]
    Ended(StepState),
}

/// What is known of the steps of an execution.
#[derive(Debug, Default)]
pub(in crate::http) struct KnownSteps {
    /// As far as each can be read: a report of another form than that of an agent counts as none.
    ended: Vec<Option<StepResult>>,
    running: Option<RunningStep>,
    /// How the others ended is not known.
    is_lost: bool,
}

impl KnownSteps {
    /// `report`: the data of the agent's report. `progress`: what it told before, as stored.
    pub(in crate::http) fn new(
        state: CommandState,
        report: Option<&Value>,
        progress: Option<&str>,
    ) -> Self {
        let reported = report.and_then(|data| data.get("steps")).and_then(Value::as_array);
        let reported: Vec<_> =
            reported.into_iter().flatten().map(|step| StepResult::deserialize(step).ok()).collect();
        let progress: StepProgress =
            progress.and_then(|stored| serde_json::from_str(stored).ok()).unwrap_or_default();
        let told: Vec<_> = progress.ended.into_iter().map(Some).collect();
        Self {
            // A lost execution may be reported without its steps.
            ended: if reported.is_empty() { told } else { reported },
            running: progress.running.filter(|_| state == CommandState::Running),
            is_lost: state == CommandState::Lost,
        }
    }

    /// The number of the step that runs, counted from 1.
    pub(in crate::http) fn current(&self) -> Option<usize> {
        self.running.map(|_| self.ended.len() + 1)
    }

    fn state(&self, number: usize) -> Option<ShownStepState> {
        match self.ended.get(number) {
            Some(Some(result)) => Some(ShownStepState::Ended(result.state)),
            _ if self.current() == Some(number + 1) => Some(ShownStepState::Running),
            _ => self.is_lost.then_some(ShownStepState::Unknown),
        }
    }
}

impl RequestedStep {
    /// The steps in the data of a command.
    pub(in crate::http) fn all(data: &Value) -> Vec<Self> {
        let steps = data.get("steps").and_then(Value::as_array).into_iter().flatten();
        steps.map(|step| Self::deserialize(step).unwrap_or_default()).collect()
    }
}

impl StepView {
    /// The steps in the data of a command, with what is known about them.
    pub(in crate::http) fn all(data: &Value, known: &KnownSteps) -> Vec<Self> {
        let requested = RequestedStep::all(data).into_iter().enumerate();
        requested.map(|(number, step)| Self::new(step, number, known)).collect()
    }

    /// The name or the script, for people.
    pub(in crate::http) fn title(&self) -> Option<&str> {
        self.name.as_deref().or(self.script.as_deref())
    }

    fn new(requested: RequestedStep, number: usize, known: &KnownSteps) -> Self {
        let result = known.ended.get(number).and_then(Option::as_ref);
        let running = known.running.filter(|_| known.current() == Some(number + 1));
        let at = result.and_then(|result| result.started_at_ms);
        let at = at.or(running.map(|running| running.started_at_ms));
        Self {
            name: requested.name,
            script: requested.script,
            argv: requested.argv,
            parameters: requested.parameters,
            secrets: requested.secrets,
            timeout_ms: requested.timeout_ms,
            on_failure: requested.on_failure,
            state: known.state(number),
            exit_code: result.and_then(|result| result.exit_code),
            signal: result.and_then(|result| result.signal),
            started_at: at.and_then(|at| i64::try_from(at).ok()).map(Timestamp),
            duration_ms: result.and_then(|result| result.duration_ms),
            output_from_bytes: result
                .map(|result| result.from_bytes)
                .or(running.map(|running| running.from_bytes)),
            output_to_bytes: result.map(|result| result.to_bytes),
            error: result
                .and_then(|result| Some(clean(result.error.as_ref()?, MAX_STEP_ERROR_CHARS))),
        }
    }
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn states(state: CommandState, report: Option<Value>, progress: Option<&str>) -> Vec<Value> {
        let data = json!({"steps": [{"script": "a"}, {"script": "b"}, {"script": "c"}]});
        let known = KnownSteps::new(state, report.as_ref(), progress);
        let shown = StepView::all(&data, &known);
        shown.iter().map(|step| serde_json::to_value(step.state).expect("plain")).collect()
    }

    #[test]
    fn a_step_that_runs_is_shown_and_of_a_lost_execution_what_is_not_known() {
        let first = json!({"state": "failed", "from_bytes": 0, "to_bytes": 3});
        let told = json!({"ended": [first], "running": {"started_at_ms": 1, "from_bytes": 3}});
        let told = told.to_string();
        let (running, lost) = (CommandState::Running, CommandState::Lost);
        assert_eq!(
            states(running, None, Some(&told)),
            [json!("failed"), json!("running"), Value::Null]
        );
        let unknown = [json!("failed"), json!("unknown"), json!("unknown")];
        assert_eq!(states(lost, None, Some(&told)), unknown);
        let report = json!({"steps": [first]});
        assert_eq!(states(lost, Some(report.clone()), None), unknown);
        assert_eq!(states(lost, Some(json!({})), Some(&told)), unknown);
        // A late report tells more.
        let late =
            json!({"steps": [first, {"state": "succeeded", "from_bytes": 3, "to_bytes": 3}]});
        let known = [json!("failed"), json!("succeeded"), json!("unknown")];
        assert_eq!(states(lost, Some(late), Some(&told)), known);
        assert_eq!(states(lost, None, None), vec![json!("unknown"); 3]);
        assert_eq!(states(CommandState::Rejected, None, None), vec![Value::Null; 3]);
        assert_eq!(states(running, None, Some("{}")), vec![Value::Null; 3], "of another form");
    }
}
