//! What came of asking one agent. Pure: what is stored is passed in.

use serde_json::Value;

use crate::domain::group::{AWAY_MS, UpdateState, retry_at};
use crate::domain::state::CommandState;
use crate::domain::time::Timestamp;
use crate::store::entities::{agent_update, command_report};

/// How long an agent may take for a verdict: a download, a trial and a way back, each at its longest.
const VERDICT_MS: u64 = 40 * 60_000;
/// Reasons that are not the release's, nor for good: the server or the network was away, the host lost
/// its power, or somebody else was first.
const PASSING: [&str; 4] = ["download_failed", "interrupted", "server_away", "update_under_way"];

/// Says where an agent is by what became of its command; true if that is somewhere else.
/// `offline_since`: since when it is not connected.
pub(super) fn judge(
    update: &mut agent_update::Model,
    found: Option<(CommandState, Option<&command_report::Model>)>,
    offline_since: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let Some((state, report)) = found else {
        // The server ended before it was stored.
        update.state = UpdateState::Pending;
        update.tries -= 1;
        return true;
    };
    let code = report.and_then(|report| report.error_code.clone());
    let message = report.and_then(|report| report.error.clone());
    match state {
        CommandState::Queued | CommandState::Delivered | CommandState::Running => {
            if update.state == UpdateState::Away {
                return false;
            }
            let asked_for_ms = now.ms_since(update.changed_at);
            let is_away = offline_since.is_some_and(|since| now.ms_since(since) > AWAY_MS);
            // It is waited for from when it was asked, however long it had been silent before.
            if is_away && asked_for_ms > AWAY_MS {
                update.state = UpdateState::Away;
                update.code = Some("away".to_owned());
                let told =
                    "it was asked and has been offline since; what came of it counts once it tells";
                update.message = Some(told.to_owned());
                return true;
            }
            if asked_for_ms <= VERDICT_MS {
                return false;
            }
            let told = "nothing was heard of the update for too long";
            fail(update, "no_verdict", told.to_owned());
        }
        CommandState::Succeeded if report.is_some_and(has_verdict) => {
            update.state = UpdateState::Done;
            (update.code, update.message) = (None, None);
        }
        CommandState::Succeeded => {
            let told = "it says that it was updated, and not to what; look at its host";
            fail(update, "no_verdict", told.to_owned());
        }
        // It went away before it was sent the command.
        CommandState::Expired => {
            update.state = UpdateState::Pending;
            update.tries -= 1;
        }
        state => {
            let code = code.unwrap_or_else(|| state.as_str().to_owned());
            let message = message.unwrap_or_else(|| format!("the update was {}", state.as_str()));
            match retry_at(update.tries, now).filter(|_| PASSING.contains(&code.as_str())) {
                Some(due_at) => {
                    update.state = UpdateState::Pending;
                    update.due_at = due_at;
                    (update.code, update.message) = (Some(code), Some(message));
                }
                None => fail(update, &code, message),
            }
        }
    }
    true
}

/// An agent that can't say what comes of an update: it is not asked.
pub(super) fn unable(mut update: agent_update::Model) -> agent_update::Model {
    let told = "it is of a version that has no releases; install the wanted one with deploy.sh";
    fail(&mut update, "unsupported_command", told.to_owned());
    update
}

fn has_verdict(report: &command_report::Model) -> bool {
    let data: Option<Value> = serde_json::from_str(&report.data).ok();
    data.is_some_and(|data| data.get("verdict").is_some())
}

fn fail(update: &mut agent_update::Model, code: &str, message: String) {
    update.state = UpdateState::Failed;
    (update.code, update.message) = (Some(code.to_owned()), Some(message));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{AgentId, CommandId, GroupId, TenantId};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn asked() -> agent_update::Model {
        agent_update::Model {
            agent_id: AgentId::new(),
            tenant_id: TenantId::new(),
            group_id: GroupId::new(),
            wish: 1,
            wave: 1,
            state: UpdateState::Updating,
            command_id: CommandId::new(),
            tries: 1,
            due_at: NOW,
            code: None,
            message: None,
            changed_at: NOW,
        }
    }

    fn report(data: &str, error_code: Option<&str>) -> command_report::Model {
        command_report::Model {
            command_id: CommandId::new(),
            is_late: false,
            outcome: CommandState::Failed,
            data: data.to_owned(),
            error: error_code.map(|code| format!("it was {code}")),
            error_code: error_code.map(str::to_owned),
            reported_at: NOW,
        }
    }

    #[test]
    fn who_goes_offline_is_set_aside_and_counts_once_it_tells() {
        let mut update = asked();
        let running = Some((CommandState::Running, None));
        let later = NOW.plus_ms(AWAY_MS + 1);
        assert!(!judge(&mut update, running, Some(NOW), NOW.plus_ms(AWAY_MS)));
        assert!(!judge(&mut update, running, None, later), "it is connected");
        assert!(!judge(&mut update, running, Some(later), later), "it was there a moment ago");
        assert!(judge(&mut update, running, Some(NOW), later));
        assert_eq!((update.state, update.code.as_deref()), (UpdateState::Away, Some("away")));
        let much_later = NOW.plus_ms(3 * VERDICT_MS);
        assert!(!judge(&mut update, running, Some(NOW), much_later), "it is still away");
        let told = report(r#"{"verdict": "installed"}"#, None);
        assert!(judge(&mut update, Some((CommandState::Succeeded, Some(&told))), None, much_later));
        assert_eq!((update.state, update.code), (UpdateState::Done, None));
    }

    #[test]
    fn who_is_connected_and_says_nothing_for_too_long_has_failed() {
        let mut update = asked();
        let running = Some((CommandState::Running, None));
        assert!(judge(&mut update, running, None, NOW.plus_ms(VERDICT_MS + 1)));
        assert_eq!(
            (update.state, update.code.as_deref()),
            (UpdateState::Failed, Some("no_verdict"))
        );
    }

    #[test]
    fn what_is_nobodys_fault_is_asked_again_and_not_for_ever() {
        for code in PASSING {
            let failed = report("{}", Some(code));
            let failed = Some((CommandState::Failed, Some(&failed)));
            let mut update = asked();
            assert!(judge(&mut update, failed, None, NOW));
            assert_eq!((update.state, update.due_at), (UpdateState::Pending, NOW.plus_ms(60_000)));
            let mut update = agent_update::Model { tries: 5, ..asked() };
            assert!(judge(&mut update, failed, None, NOW));
            assert_eq!((update.state, update.code.as_deref()), (UpdateState::Failed, Some(code)));
        }
        let refused = report("{}", Some("wrong_sum"));
        let mut update = asked();
        assert!(judge(&mut update, Some((CommandState::Failed, Some(&refused))), None, NOW));
        assert_eq!(update.state, UpdateState::Failed);
    }

    #[test]
    fn an_agent_that_ends_without_a_verdict_is_not_taken_for_updated() {
        let told = report("{}", None);
        let mut update = asked();
        assert!(judge(&mut update, Some((CommandState::Succeeded, Some(&told))), None, NOW));
        assert_eq!(
            (update.state, update.code.as_deref()),
            (UpdateState::Failed, Some("no_verdict"))
        );
    }

    #[test]
    fn a_command_that_was_never_stored_or_never_sent_does_not_count() {
        for found in [None, Some((CommandState::Expired, None))] {
            let mut update = asked();
            assert!(judge(&mut update, found, None, NOW));
            assert_eq!((update.state, update.tries), (UpdateState::Pending, 0));
        }
    }
}
