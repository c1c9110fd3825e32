//! How an execution with steps ended, from the results of its steps.

use muster_protocol::commands::step::{StepResult, StepState};
use muster_protocol::frame::Outcome;

use super::ExitRecord;

/// The outcome, its code and a sentence. A step that did not succeed fails the execution, also if the others
/// ran after it.
pub(super) fn ended(exit: &ExitRecord) -> (Outcome, Option<&'static str>, Option<String>) {
    let steps = &exit.result.steps;
    let is_skipped = |step: &&StepResult| step.state == StepState::Skipped;
    let skipped = match steps.iter().filter(is_skipped).count() {
        0 => String::new(),
        1 => "; 1 step was skipped".to_owned(),
        count => format!("; {count} steps were skipped"),
    };
    let is_bad =
        |step: &StepResult| !matches!(step.state, StepState::Succeeded | StepState::Skipped);
    let first = steps.iter().position(is_bad).and_then(|at| Some((at + 1, steps.get(at)?)));
    if exit.is_timed_out {
        let text = format!("the steps exceeded their time limit and were ended{skipped}");
        return (Outcome::TimedOut, Some("timed_out"), Some(text));
    }
    if exit.is_cancelled {
        let (code, ended) = exit.cancelled_by.ended();
        return (Outcome::Cancelled, Some(code), Some(format!("the steps were {ended}{skipped}")));
    }
    let Some((number, step)) = first else { return (Outcome::Succeeded, None, None) };
    let how = match (step.state, step.exit_code, step.signal, &step.error) {
        (_, _, _, Some(error)) => format!("could not start: {error}"),
        (StepState::TimedOut, ..) => "exceeded its time limit and was ended".to_owned(),
        (_, Some(code), ..) => format!("exited with code {code}"),
        (_, None, Some(signal), _) => format!("was ended by signal {signal}"),
        (_, None, None, None) => "ended in an unknown way".to_owned(),
    };
    let name = step.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let text = format!("step {number}{name} {how}{skipped}");
    (Outcome::Failed, Some("step_failed"), Some(text))
}
