//! Examples and properties of what came of asking.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const ASKED: Asked = Asked { state: UpdateState::Updating, tries: 1, at: NOW };

fn told(state: CommandState) -> Told<'static> {
    Told { state, has_update_result: false, code: None, message: None }
}

fn failed(code: &str) -> Told<'_> {
    Told { code: Some(code), ..told(CommandState::Failed) }
}

fn code(judgement: &Transition) -> &str {
    judgement.trouble.as_ref().map_or("", |(code, _)| code)
}

#[test]
fn who_goes_offline_is_set_aside_and_counts_once_it_tells() {
    let running = Some(told(CommandState::Running));
    let later = NOW.plus_ms(UNREACHABLE_MS + 1);
    assert_eq!(judge(ASKED, running, Some(NOW), NOW.plus_ms(UNREACHABLE_MS)), None);
    assert_eq!(judge(ASKED, running, None, later), None, "it is connected");
    assert_eq!(judge(ASKED, running, Some(later), later), None, "it was there a moment ago");
    let judgement = judge(ASKED, running, Some(NOW), later).expect("it moves");
    assert_eq!((judgement.state, code(&judgement)), (UpdateState::Unreachable, "unreachable"));
    let away = Asked { state: UpdateState::Unreachable, ..ASKED };
    let much_later = NOW.plus_ms(3 * VERDICT_MS);
    assert_eq!(judge(away, running, Some(NOW), much_later), None, "it is still away");
    let verdict = Told { has_update_result: true, ..told(CommandState::Succeeded) };
    let judgement = judge(away, Some(verdict), None, much_later).expect("it moves");
    assert_eq!((judgement.state, judgement.trouble), (UpdateState::Done, None));
}

#[test]
fn who_gives_no_verdict_has_failed() {
    let running = Some(told(CommandState::Running));
    let ended = Some(told(CommandState::Succeeded));
    for (found, at) in [(running, NOW.plus_ms(VERDICT_MS + 1)), (ended, NOW)] {
        let judgement = judge(ASKED, found, None, at).expect("it moves");
        assert_eq!((judgement.state, code(&judgement)), (UpdateState::Failed, "no_verdict"));
        // Whatever was told, one that is there is there.
        let asked = Asked { state: judgement.state, ..ASKED };
        let arrived = asked.arrived().expect("it moves");
        assert_eq!((arrived.state, arrived.trouble), (UpdateState::Done, None));
    }
}

#[test]
fn what_is_nobodys_fault_is_asked_again_and_not_for_ever() {
    for passing in PASSING {
        let judgement = judge(ASKED, Some(failed(passing)), None, NOW).expect("it moves");
        let due_at = NOW.plus_ms(FIRST_RETRY_MS);
        assert_eq!((judgement.state, judgement.due_at), (UpdateState::Pending, due_at));
        let last = Asked { tries: MAX_TRIES, ..ASKED };
        let judgement = judge(last, Some(failed(passing)), None, NOW).expect("it moves");
        assert_eq!((judgement.state, code(&judgement)), (UpdateState::Failed, passing));
    }
    let judgement = judge(ASKED, Some(failed("wrong_sum")), None, NOW).expect("it moves");
    assert_eq!(judgement.state, UpdateState::Failed);
}

#[test]
fn a_command_that_was_never_taken_is_no_try_and_a_busy_host_is_said_to_be_one() {
    let expired = Some(told(CommandState::Expired));
    for (found, offline_since, told, due_at) in [
        (None, None, "", NOW),
        (expired, Some(NOW), "", NOW),
        (expired, None, BUSY, NOW.plus_ms(BUSY_MS)),
    ] {
        let judgement = judge(ASKED, found, offline_since, NOW).expect("it moves");
        assert_eq!((judgement.state, judgement.tries), (UpdateState::Pending, 0));
        assert_eq!((code(&judgement), judgement.due_at), (told, due_at));
    }
}

#[test]
fn who_is_asked_again_is_asked_later_each_time_and_not_for_ever() {
    let delays: Vec<_> =
        (1..=MAX_TRIES).map(|tries| retry_at(tries, NOW).map(|at| at.ms_since(NOW))).collect();
    assert_eq!(delays, [Some(60_000), Some(120_000), Some(240_000), Some(480_000), None]);
}

proptest! {
    #[test]
    fn who_is_not_done_and_not_updating_has_a_reason_or_is_due(
        state in prop::sample::select(vec![
            CommandState::Queued, CommandState::Delivered, CommandState::Running,
            CommandState::Succeeded, CommandState::Failed, CommandState::TimedOut,
            CommandState::Cancelled, CommandState::Expired, CommandState::Rejected,
            CommandState::Lost,
        ]),
        code in prop::option::of(prop::sample::select(vec!["wrong_sum", "server_unreachable"])),
        (has_update_result, is_online, tries) in (any::<bool>(), any::<bool>(), 1..8i32),
        after in 0..4 * VERDICT_MS,
    ) {
        let found = Told { state, has_update_result, code, message: None };
        let (asked, now) = (Asked { tries, ..ASKED }, NOW.plus_ms(after));
        let offline_since = (!is_online).then_some(NOW);
        let Some(judgement) = judge(asked, Some(found), offline_since, now) else {
            prop_assert!(!state.is_terminal(), "an ended command moves its agent");
            return Ok(());
        };
        let is_done = state == CommandState::Succeeded && has_update_result;
        prop_assert_eq!(judgement.state == UpdateState::Done, is_done);
        match judgement.state {
            UpdateState::Done => prop_assert_eq!(judgement.trouble, None),
            UpdateState::Pending => {
                prop_assert!(judgement.trouble.is_some() || judgement.due_at <= now);
                prop_assert!(judgement.tries < MAX_TRIES || judgement.tries < tries);
            }
            UpdateState::Failed | UpdateState::Unreachable => {
                prop_assert!(judgement.trouble.is_some());
            }
            UpdateState::Updating => prop_assert!(false, "that is where it was"),
        }
    }
}
