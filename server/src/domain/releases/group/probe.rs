//! The no-op execution of a canary: how it ended, and what follows. Pure.

use super::UpdateState;
use super::attempt::{AttemptTransition, BUSY, BUSY_MS, UNREACHABLE_MS, UpdateAttempt, retry_at};
use crate::domain::commands::command_state::CommandState;
use crate::domain::time::Timestamp;

/// How long a connected agent may take for it: the wait for a free slot, the run and the report.
pub const PROBE_RESULT_MS: u64 = 5 * 60_000;
/// The canary counts by its registration alone: its version knows no no-op executions.
pub const UNSUPPORTED: &str = "probe_unsupported";
/// The canary counts by its registration alone: its key or its host permits no executions.
pub const NOT_PERMITTED: &str = "probe_not_permitted";

/// The state of the execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeOutcome<'a> {
    pub state: CommandState,
    /// The server has stored what it wrote to standard output.
    pub has_output: bool,
    /// The server did not let it through, because the agent's key permits no executions.
    pub is_forbidden: bool,
    pub code: Option<&'a str>,
    pub message: Option<&'a str>,
}

/// Decides the new state of a canary that runs the new version; `None` if it does not change. `Pending` means
/// that the execution is tried again.
///
/// `outcome` is `None` if the execution was never stored. `offline_since` is `None` while the agent is
/// connected. `is_up_to_date`: it still runs the desired version.
pub fn evaluate_probe(
    attempt: UpdateAttempt,
    outcome: Option<ProbeOutcome<'_>>,
    (offline_since, is_up_to_date): (Option<Timestamp>, bool),
    now: Timestamp,
) -> Option<AttemptTransition> {
    if offline_since.is_none() && !is_up_to_date {
        let message = "it registered, and then connected with another version";
        return Some(end(attempt, UpdateState::Failed, Some(("version_changed", message))));
    }
    let elapsed_ms = now.ms_since(attempt.at);
    let uncounted = UpdateAttempt { tries: attempt.tries - 1, ..attempt };
    if outcome.is_none() {
        // The host can't have started it. Another agent may become the canary meanwhile.
        if offline_since.is_some() {
            return Some(AttemptTransition {
                due_at: now,
                ..end(uncounted, UpdateState::Pending, None)
            });
        }
        let message = "the new version registered, but the server could not send its no-op execution within 5 minutes";
        return (elapsed_ms > PROBE_RESULT_MS)
            .then(|| end(attempt, UpdateState::Failed, Some(("probe_failed", message))));
    }
    let Some(outcome) = outcome.filter(|outcome| outcome.state.is_terminal()) else {
        if attempt.state == UpdateState::Unreachable {
            return None;
        }
        let is_away = offline_since.is_some_and(|since| now.ms_since(since) > UNREACHABLE_MS);
        if is_away && elapsed_ms > UNREACHABLE_MS {
            let message = "the agent went offline before its no-op execution ended";
            return Some(end(attempt, UpdateState::Unreachable, Some(("unreachable", message))));
        }
        let message =
            "the new version registered, but did not run a no-op execution within 5 minutes";
        return (offline_since.is_none() && elapsed_ms > PROBE_RESULT_MS)
            .then(|| end(attempt, UpdateState::Failed, Some(("probe_failed", message))));
    };
    if outcome.is_forbidden || outcome.code == Some("permission_denied") {
        let message =
            "the agent's key does not permit `execute`, so it counts by its registration alone";
        return Some(end(attempt, UpdateState::Done, Some((NOT_PERMITTED, message))));
    }
    if outcome.code == Some("capsule_required") {
        let message = "the host asks for the signature of an approver for each execution, so it counts by its registration alone";
        return Some(end(attempt, UpdateState::Done, Some((NOT_PERMITTED, message))));
    }
    let again = |due_at, problem| {
        Some(AttemptTransition { due_at, ..end(attempt, UpdateState::Pending, problem) })
    };
    let busy = Some((
        BUSY,
        "the agent is busy: its executions take every slot; the server will try again",
    ));
    match outcome.state {
        CommandState::Succeeded if outcome.has_output => {
            Some(end(attempt, UpdateState::Done, None))
        }
        CommandState::Expired => {
            let is_away = offline_since.is_some();
            let due_at = if is_away { now } else { now.plus_ms(BUSY_MS) };
            let problem = if is_away { None } else { busy };
            Some(AttemptTransition { due_at, ..end(uncounted, UpdateState::Pending, problem) })
        }
        CommandState::Rejected if outcome.code == Some("too_many_commands") => {
            let due_at = now.plus_ms(BUSY_MS);
            Some(AttemptTransition { due_at, ..end(uncounted, UpdateState::Pending, busy) })
        }
        // The host may have lost power.
        CommandState::Lost if let Some(due_at) = retry_at(attempt.tries, now) => {
            again(due_at, Some(("lost", "the result of its no-op execution is not known")))
        }
        state => {
            let fallback = match state {
                CommandState::Succeeded => "its output did not arrive".to_owned(),
                state => format!("it ended as {}", state.as_str()),
            };
            let reason = outcome.message.unwrap_or(&fallback);
            let message =
                format!("the new version registered, but did not run a no-op execution: {reason}");
            Some(end(attempt, UpdateState::Failed, Some(("probe_failed", &message))))
        }
    }
}

/// The attempt when its new version has registered: the execution is next.
pub fn begin(attempt: UpdateAttempt) -> AttemptTransition {
    end(UpdateAttempt { tries: 1, ..attempt }, UpdateState::Updating, None)
}

/// The attempt when the execution is tried again.
pub fn restart(attempt: UpdateAttempt) -> AttemptTransition {
    end(UpdateAttempt { tries: attempt.tries + 1, ..attempt }, UpdateState::Updating, None)
}

/// The attempt of a version that knows no no-op executions.
pub fn by_registration(attempt: UpdateAttempt) -> AttemptTransition {
    let message =
        "its version does not know no-op executions, so it counts by its registration alone";
    end(attempt, UpdateState::Done, Some((UNSUPPORTED, message)))
}

fn end(
    attempt: UpdateAttempt,
    state: UpdateState,
    problem: Option<(&str, &str)>,
) -> AttemptTransition {
    let problem = problem.map(|(code, message)| (code.to_owned(), message.to_owned()));
    AttemptTransition { state, tries: attempt.tries, due_at: attempt.at, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const ATTEMPT: UpdateAttempt =
        UpdateAttempt { state: UpdateState::Updating, tries: 1, at: NOW };
    const HERE: (Option<Timestamp>, bool) = (None, true);

    fn outcome(state: CommandState) -> ProbeOutcome<'static> {
        ProbeOutcome { state, has_output: true, is_forbidden: false, code: None, message: None }
    }

    fn ended(outcome: ProbeOutcome<'_>) -> (UpdateState, Option<String>) {
        let transition = evaluate_probe(ATTEMPT, Some(outcome), HERE, NOW).expect("it ended");
        (transition.state, transition.problem.map(|(code, _)| code))
    }

    #[test]
    fn only_a_successful_execution_whose_output_arrived_proves_a_canary() {
        assert_eq!(ended(outcome(CommandState::Succeeded)), (UpdateState::Done, None));
        let silent = ProbeOutcome { has_output: false, ..outcome(CommandState::Succeeded) };
        assert_eq!(ended(silent), (UpdateState::Failed, Some("probe_failed".into())));
        for state in [
            CommandState::Failed,
            CommandState::TimedOut,
            CommandState::Cancelled,
            CommandState::Rejected,
        ] {
            assert_eq!(ended(outcome(state)), (UpdateState::Failed, Some("probe_failed".into())));
        }
        let changed =
            evaluate_probe(ATTEMPT, Some(outcome(CommandState::Succeeded)), (None, false), NOW);
        assert_eq!(changed.map(|transition| transition.state), Some(UpdateState::Failed));
    }

    #[test]
    fn a_host_that_permits_no_execution_counts_by_its_registration() {
        let forbidden = ProbeOutcome { is_forbidden: true, ..outcome(CommandState::Expired) };
        assert_eq!(ended(forbidden), (UpdateState::Done, Some(NOT_PERMITTED.into())));
        let asks =
            ProbeOutcome { code: Some("capsule_required"), ..outcome(CommandState::Rejected) };
        assert_eq!(ended(asks), (UpdateState::Done, Some(NOT_PERMITTED.into())));
    }

    #[test]
    fn an_execution_that_says_nothing_about_the_version_is_tried_again() {
        assert_eq!(
            ended(outcome(CommandState::Expired)),
            (UpdateState::Pending, Some(BUSY.into()))
        );
        assert_eq!(ended(outcome(CommandState::Lost)), (UpdateState::Pending, Some("lost".into())));
        let last = UpdateAttempt { tries: super::super::attempt::MAX_TRIES, ..ATTEMPT };
        let lost = evaluate_probe(last, Some(outcome(CommandState::Lost)), HERE, NOW);
        assert_eq!(lost.map(|transition| transition.state), Some(UpdateState::Failed));
    }

    #[test]
    fn a_canary_without_a_result_fails_if_it_is_connected_and_is_unreachable_otherwise() {
        let open = Some(outcome(CommandState::Running));
        assert_eq!(evaluate_probe(ATTEMPT, open, HERE, NOW.plus_ms(PROBE_RESULT_MS)), None);
        let late = NOW.plus_ms(PROBE_RESULT_MS + 1);
        let state = |transition: Option<AttemptTransition>| transition.map(|it| it.state);
        assert_eq!(state(evaluate_probe(ATTEMPT, open, HERE, late)), Some(UpdateState::Failed));
        assert_eq!(evaluate_probe(ATTEMPT, open, (Some(NOW), true), late), None);
        let later = NOW.plus_ms(UNREACHABLE_MS + 1);
        let gone = evaluate_probe(ATTEMPT, open, (Some(NOW), true), later);
        assert_eq!(state(gone), Some(UpdateState::Unreachable));
    }

    #[test]
    fn an_execution_that_is_never_stored_neither_hangs_nor_holds_a_cohort() {
        let soon = NOW.plus_ms(PROBE_RESULT_MS);
        assert_eq!(evaluate_probe(ATTEMPT, None, HERE, soon), None, "it is about to be sent");
        let late = evaluate_probe(ATTEMPT, None, HERE, soon.plus_ms(1)).expect("it ended");
        assert_eq!(late.state, UpdateState::Failed);
        for state in [UpdateState::Updating, UpdateState::Unreachable] {
            let away = UpdateAttempt { state, ..ATTEMPT };
            let gone = evaluate_probe(away, None, (Some(NOW), true), soon).expect("it ended");
            assert_eq!((gone.state, gone.tries), (UpdateState::Pending, 0));
        }
    }
}
