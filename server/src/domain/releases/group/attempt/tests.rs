//! Examples and properties of the outcome of an attempt.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const ATTEMPT: UpdateAttempt = UpdateAttempt { state: UpdateState::Updating, tries: 1, at: NOW };

fn outcome(state: CommandState) -> AttemptOutcome<'static> {
    AttemptOutcome { state, has_update_result: false, code: None, message: None }
}

fn failed(code: &str) -> AttemptOutcome<'_> {
    AttemptOutcome { code: Some(code), ..outcome(CommandState::Failed) }
}

fn code(transition: &AttemptTransition) -> &str {
    transition.problem.as_ref().map_or("", |(code, _)| code)
}

#[test]
fn an_agent_that_goes_offline_is_unreachable_until_it_reports() {
    let running = Some(outcome(CommandState::Running));
    let later = NOW.plus_ms(UNREACHABLE_MS + 1);
    assert_eq!(evaluate_attempt(ATTEMPT, running, Some(NOW), NOW.plus_ms(UNREACHABLE_MS)), None);
    assert_eq!(evaluate_attempt(ATTEMPT, running, None, later), None, "it is connected");
    assert_eq!(
        evaluate_attempt(ATTEMPT, running, Some(later), later),
        None,
        "it was connected a moment ago"
    );
    let transition =
        evaluate_attempt(ATTEMPT, running, Some(NOW), later).expect("its state changes");
    assert_eq!((transition.state, code(&transition)), (UpdateState::Unreachable, "unreachable"));
    let unreachable = UpdateAttempt { state: UpdateState::Unreachable, ..ATTEMPT };
    let much_later = NOW.plus_ms(3 * RESULT_MS);
    assert_eq!(
        evaluate_attempt(unreachable, running, Some(NOW), much_later),
        None,
        "it is still offline"
    );
    let success = AttemptOutcome { has_update_result: true, ..outcome(CommandState::Succeeded) };
    let transition =
        evaluate_attempt(unreachable, Some(success), None, much_later).expect("its state changes");
    assert_eq!((transition.state, transition.problem), (UpdateState::Done, None));
}

#[test]
fn an_agent_that_reports_no_result_has_failed_until_it_runs_the_version() {
    let running = Some(outcome(CommandState::Running));
    let ended = Some(outcome(CommandState::Succeeded));
    for (found, at) in [(running, NOW.plus_ms(RESULT_MS + 1)), (ended, NOW)] {
        let transition = evaluate_attempt(ATTEMPT, found, None, at).expect("its state changes");
        assert_eq!((transition.state, code(&transition)), (UpdateState::Failed, "no_result"));
        // An agent that runs the version is up to date, regardless of its report.
        let attempt = UpdateAttempt { state: transition.state, ..ATTEMPT };
        let up_to_date = attempt.up_to_date().expect("its state changes");
        assert_eq!((up_to_date.state, up_to_date.problem), (UpdateState::Done, None));
    }
}

#[test]
fn an_update_that_failed_for_a_transient_reason_is_retried_a_few_times() {
    for code_name in TRANSIENT_CODES {
        let transition = evaluate_attempt(ATTEMPT, Some(failed(code_name)), None, NOW)
            .expect("its state changes");
        let due_at = NOW.plus_ms(FIRST_RETRY_MS);
        assert_eq!((transition.state, transition.due_at), (UpdateState::Pending, due_at));
        let last = UpdateAttempt { tries: MAX_TRIES, ..ATTEMPT };
        let transition =
            evaluate_attempt(last, Some(failed(code_name)), None, NOW).expect("its state changes");
        assert_eq!((transition.state, code(&transition)), (UpdateState::Failed, code_name));
    }
    let transition =
        evaluate_attempt(ATTEMPT, Some(failed("wrong_sum")), None, NOW).expect("its state changes");
    assert_eq!(transition.state, UpdateState::Failed);
}

#[test]
fn a_command_that_never_arrived_does_not_count_as_a_try() {
    let expired = Some(outcome(CommandState::Expired));
    for (found, offline_since, code_name, due_at) in [
        (None, None, "", NOW),
        (expired, Some(NOW), "", NOW),
        (expired, None, BUSY, NOW.plus_ms(BUSY_MS)),
    ] {
        let transition =
            evaluate_attempt(ATTEMPT, found, offline_since, NOW).expect("its state changes");
        assert_eq!((transition.state, transition.tries), (UpdateState::Pending, 0));
        assert_eq!((code(&transition), transition.due_at), (code_name, due_at));
    }
}

#[test]
fn the_delay_between_retries_doubles_until_the_last_try() {
    let delays: Vec<_> =
        (1..=MAX_TRIES).map(|tries| retry_at(tries, NOW).map(|at| at.ms_since(NOW))).collect();
    assert_eq!(delays, [Some(60_000), Some(120_000), Some(240_000), Some(480_000), None]);
}

proptest! {
    #[test]
    fn an_agent_that_is_not_up_to_date_has_a_problem_or_is_due(
        state in prop::sample::select(vec![
            CommandState::Queued, CommandState::Delivered, CommandState::Running,
            CommandState::Succeeded, CommandState::Failed, CommandState::TimedOut,
            CommandState::Cancelled, CommandState::Expired, CommandState::Rejected,
            CommandState::Lost,
        ]),
        code in prop::option::of(prop::sample::select(vec!["wrong_sum", "server_unreachable"])),
        (has_update_result, is_online, tries) in (any::<bool>(), any::<bool>(), 1..8i32),
        after in 0..4 * RESULT_MS,
    ) {
        let found = AttemptOutcome { state, has_update_result, code, message: None };
        let (attempt, now) = (UpdateAttempt { tries, ..ATTEMPT }, NOW.plus_ms(after));
        let offline_since = (!is_online).then_some(NOW);
        let Some(transition) = evaluate_attempt(attempt, Some(found), offline_since, now) else {
            prop_assert!(!state.is_terminal(), "an ended command changes the state of its agent");
            return Ok(());
        };
        let is_done = state == CommandState::Succeeded && has_update_result;
        prop_assert_eq!(transition.state == UpdateState::Done, is_done);
        match transition.state {
            UpdateState::Done => prop_assert_eq!(transition.problem, None),
            UpdateState::Pending => {
                prop_assert!(transition.problem.is_some() || transition.due_at <= now);
                prop_assert!(transition.tries < MAX_TRIES || transition.tries < tries);
            }
            UpdateState::Failed | UpdateState::Unreachable => {
                prop_assert!(transition.problem.is_some());
            }
            UpdateState::Updating => prop_assert!(false, "its state did not change"),
        }
    }
}
