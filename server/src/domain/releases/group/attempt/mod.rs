//! What came of asking one agent for a version.

#[cfg(test)]
mod tests;

use super::UpdateState;
use crate::domain::commands::command_state::CommandState;
use crate::domain::time::Timestamp;

/// How often an agent is asked again that could not be told to be at fault.
pub const MAX_TRIES: i32 = 5;
/// How long an agent that was asked may be offline before nobody waits for it: a download, or a trial,
/// at its longest, and a margin.
pub const UNREACHABLE_MS: u64 = 15 * 60_000;
/// How long an agent may take for a verdict: a download, a trial and a way back, each at its longest.
const VERDICT_MS: u64 = 40 * 60_000;
/// The first delay before an agent is asked again; it doubles.
const FIRST_RETRY_MS: u64 = 60_000;
/// The delay before one is asked again that had no room for the command.
pub const BUSY_MS: u64 = 3 * 60_000;
/// Why one is asked again that had no room.
pub const BUSY: &str = "busy";
/// Reasons that are not the release's, nor for good: the server or the network was away, the host lost
/// its power, or somebody else was first.
const PASSING: [&str; 4] =
    ["download_failed", "interrupted", "server_unreachable", "update_under_way"];

/// How an agent was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub state: UpdateState,
    /// This one counts.
    pub tries: i32,
    pub at: Timestamp,
}

/// What its command has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<'a> {
    pub state: CommandState,
    /// It came with the verdict of a supervisor.
    pub has_update_result: bool,
    pub code: Option<&'a str>,
    pub message: Option<&'a str>,
}

/// Where the agent is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub state: UpdateState,
    pub tries: i32,
    /// Of a pending one: when it is asked again.
    pub due_at: Timestamp,
    /// Why it is not done: a code, and a sentence.
    pub trouble: Option<(String, String)>,
}

/// Says where an agent is by what became of its command, which is absent if it was never stored; `None`
/// if it is where it was. `offline_since`: since when it is not connected.
pub fn judge(
    asked: Asked,
    told: Option<Told<'_>>,
    offline_since: Option<Timestamp>,
    now: Timestamp,
) -> Option<Transition> {
    // The server ended before it was stored, or the group was stopped.
    let Some(told) = told else { return Some(asked.again(now, None)) };
    match told.state {
        CommandState::Queued | CommandState::Delivered | CommandState::Running => {
            asked.judge_open(offline_since, now)
        }
        CommandState::Succeeded if told.has_update_result => Some(asked.becomes(UpdateState::Done)),
        CommandState::Succeeded => {
            Some(asked.fails(
                "no_verdict",
                "it says that it was updated, and not to what; look at its host",
            ))
        }
        // It went away before it was sent the command.
        CommandState::Expired if offline_since.is_some() => Some(asked.again(now, None)),
        CommandState::Expired => {
            let told = "it had no room for the command, since its jobs take every place; it is asked again";
            Some(asked.again(now.plus_ms(BUSY_MS), Some((BUSY, told))))
        }
        state => {
            let code = told.code.unwrap_or(state.as_str());
            let untold = format!("the update was {}", state.as_str());
            let message = told.message.unwrap_or(&untold);
            let retry_at = retry_at(asked.tries, now).filter(|_| PASSING.contains(&code));
            Some(match retry_at {
                Some(due_at) => Transition {
                    due_at,
                    trouble: Some((code.to_owned(), message.to_owned())),
                    ..asked.becomes(UpdateState::Pending)
                },
                None => asked.fails(code, message),
            })
        }
    }
}

/// When an agent is asked again that was asked so often; `None` if it is not.
pub fn retry_at(tries: i32, now: Timestamp) -> Option<Timestamp> {
    let doublings = u32::try_from(tries.max(1) - 1).unwrap_or(0).min(16);
    (tries < MAX_TRIES).then(|| now.plus_ms(FIRST_RETRY_MS << doublings))
}

impl Asked {
    /// The command is open.
    fn judge_open(self, offline_since: Option<Timestamp>, now: Timestamp) -> Option<Transition> {
        if self.state == UpdateState::Unreachable {
            return None;
        }
        let asked_for_ms = now.ms_since(self.at);
        let is_away = offline_since.is_some_and(|since| now.ms_since(since) > UNREACHABLE_MS);
        // It is waited for from when it was asked, however long it had been silent before.
        if is_away && asked_for_ms > UNREACHABLE_MS {
            let told =
                "it was asked and has been offline since; what came of it counts once it tells";
            let trouble = Some(("unreachable".to_owned(), told.to_owned()));
            return Some(Transition { trouble, ..self.becomes(UpdateState::Unreachable) });
        }
        (asked_for_ms > VERDICT_MS)
            .then(|| self.fails("no_verdict", "nothing was heard of the update for too long"))
    }

    /// An agent that can't say what comes of an update: it is not asked.
    pub fn unable(self) -> Transition {
        let told = "it is of a version that has no releases; install the wanted one with deploy.sh";
        self.fails("unsupported_command", told)
    }

    /// It is of the wanted version, however it came there; `None` if it is where it was. Whose command is
    /// open has yet to tell.
    pub fn arrived(self) -> Option<Transition> {
        let is_troubled = matches!(self.state, UpdateState::Pending | UpdateState::Failed);
        is_troubled.then(|| self.becomes(UpdateState::Done))
    }

    /// It never took the command, which is no try.
    fn again(self, due_at: Timestamp, trouble: Option<(&str, &str)>) -> Transition {
        let trouble = trouble.map(|(code, message)| (code.to_owned(), message.to_owned()));
        Transition { tries: self.tries - 1, due_at, trouble, ..self.becomes(UpdateState::Pending) }
    }

    fn becomes(self, state: UpdateState) -> Transition {
        Transition { state, tries: self.tries, due_at: self.at, trouble: None }
    }

    fn fails(self, code: &str, message: &str) -> Transition {
        let trouble = Some((code.to_owned(), message.to_owned()));
        Transition { trouble, ..self.becomes(UpdateState::Failed) }
    }
}
