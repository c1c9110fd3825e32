//! How the attempt to update one agent ended.

#[cfg(test)]
mod tests;

use super::UpdateState;
use crate::domain::commands::command_state::CommandState;
use crate::domain::time::Timestamp;

/// Attempts per agent, when each fails for a reason that may pass.
pub const MAX_TRIES: i32 = 5;
/// How long an agent may be offline after the request before it counts as unreachable: the longest
/// download or trial, and a margin.
pub const UNREACHABLE_MS: u64 = 15 * 60_000;
/// How long an agent may take to report a result: the longest download, trial and roll back.
const RESULT_MS: u64 = 40 * 60_000;
/// The delay before the first retry. It doubles with each retry.
const FIRST_RETRY_MS: u64 = 60_000;
/// The delay before a busy agent is tried again.
pub const BUSY_MS: u64 = 3 * 60_000;
/// The code of an agent that had no free slot for the command.
pub const BUSY: &str = "busy";
/// Codes of failures that may pass and are no fault of the release: the server or the network was
/// down, the host lost power, or another update was under way.
const TRANSIENT_CODES: [&str; 4] =
    ["download_failed", "interrupted", "server_unreachable", "update_under_way"];

/// One try to update an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateAttempt {
    pub state: UpdateState,
    /// Including this one.
    pub tries: i32,
    pub at: Timestamp,
}

/// The state of the command that requested the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptOutcome<'a> {
    pub state: CommandState,
    /// The agent reported what its supervisor did.
    pub has_update_result: bool,
    pub code: Option<&'a str>,
    pub message: Option<&'a str>,
}

/// The new state of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptTransition {
    pub state: UpdateState,
    pub tries: i32,
    /// When a pending agent is tried again.
    pub due_at: Timestamp,
    /// Why the agent is not up to date: a code, and a sentence.
    pub problem: Option<(String, String)>,
}

/// Decides the new state of an agent; `None` if it does not change.
///
/// `outcome` is `None` if the command was never stored. `offline_since` is `None` while the agent is
/// connected.
pub fn evaluate_attempt(
    attempt: UpdateAttempt,
    outcome: Option<AttemptOutcome<'_>>,
    offline_since: Option<Timestamp>,
    now: Timestamp,
) -> Option<AttemptTransition> {
    // The server stopped before it stored the command, or the group was stopped.
    let Some(outcome) = outcome else { return Some(attempt.retry(now, None)) };
    match outcome.state {
        CommandState::Queued | CommandState::Delivered | CommandState::Running => {
            attempt.evaluate_open(offline_since, now)
        }
        CommandState::Succeeded if outcome.has_update_result => {
            Some(attempt.with_state(UpdateState::Done))
        }
        CommandState::Succeeded => {
            Some(attempt.fail(
                "no_result",
                "the agent reported an update without its result; check the host",
            ))
        }
        // The agent went offline before the command was sent.
        CommandState::Expired if offline_since.is_some() => Some(attempt.retry(now, None)),
        CommandState::Expired => {
            let message = "the agent is busy: its executions take every slot; \
                           the server will try again";
            Some(attempt.retry(now.plus_ms(BUSY_MS), Some((BUSY, message))))
        }
        state => Some(attempt.evaluate_failed(state, outcome, now)),
    }
}

/// When an agent is tried again after this many attempts; `None` if it is not.
pub fn retry_at(tries: i32, now: Timestamp) -> Option<Timestamp> {
    let doublings = u32::try_from(tries.max(1) - 1).unwrap_or(0).min(16);
    (tries < MAX_TRIES).then(|| now.plus_ms(FIRST_RETRY_MS << doublings))
}

impl UpdateAttempt {
    /// The command has not ended.
    fn evaluate_open(
        self,
        offline_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<AttemptTransition> {
        if self.state == UpdateState::Unreachable {
            return None;
        }
        let elapsed_ms = now.ms_since(self.at);
        let is_offline = offline_since.is_some_and(|since| now.ms_since(since) > UNREACHABLE_MS);
        // Counted from the request at the earliest, even if the agent had been offline for long
        // before.
        if is_offline && elapsed_ms > UNREACHABLE_MS {
            let message = "the agent has been offline since the update was requested; \
                           its result counts when it reconnects";
            let problem = Some(("unreachable".to_owned(), message.to_owned()));
            return Some(AttemptTransition {
                problem,
                ..self.with_state(UpdateState::Unreachable)
            });
        }
        (elapsed_ms > RESULT_MS)
            .then(|| self.fail("no_result", "the agent reported no result within 40 minutes"))
    }

    /// The command ended without success.
    fn evaluate_failed(
        self,
        state: CommandState,
        outcome: AttemptOutcome<'_>,
        now: Timestamp,
    ) -> AttemptTransition {
        let code = outcome.code.unwrap_or(state.as_str());
        let default_message = format!("the update command ended as {}", state.as_str());
        let message = outcome.message.unwrap_or(&default_message);
        let retry_at = retry_at(self.tries, now).filter(|_| TRANSIENT_CODES.contains(&code));
        match retry_at {
            Some(due_at) => AttemptTransition {
                due_at,
                problem: Some((code.to_owned(), message.to_owned())),
                ..self.with_state(UpdateState::Pending)
            },
            None => self.fail(code, message),
        }
    }

    /// The agent cannot report the result of an update, so none is requested.
    pub fn unsupported(self) -> AttemptTransition {
        let message = "the agent's version does not support updates; \
                       install the desired version with deploy.sh";
        self.fail("unsupported_command", message)
    }

    /// The agent runs the desired version, from any source; `None` if its state does not change.
    /// An agent with an open command still has to report.
    pub fn up_to_date(self) -> Option<AttemptTransition> {
        let has_problem = matches!(self.state, UpdateState::Pending | UpdateState::Failed);
        has_problem.then(|| self.with_state(UpdateState::Done))
    }

    /// The agent never received the command, so the try does not count.
    fn retry(self, due_at: Timestamp, problem: Option<(&str, &str)>) -> AttemptTransition {
        let problem = problem.map(|(code, message)| (code.to_owned(), message.to_owned()));
        let tries = self.tries - 1;
        AttemptTransition { tries, due_at, problem, ..self.with_state(UpdateState::Pending) }
    }

    fn with_state(self, state: UpdateState) -> AttemptTransition {
        AttemptTransition { state, tries: self.tries, due_at: self.at, problem: None }
    }

    fn fail(self, code: &str, message: &str) -> AttemptTransition {
        let problem = Some((code.to_owned(), message.to_owned()));
        AttemptTransition { problem, ..self.with_state(UpdateState::Failed) }
    }
}
