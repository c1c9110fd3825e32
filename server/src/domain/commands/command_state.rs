//! The life of a durable command: which state follows which, and why a command ended.

use muster_protocol::frame::Outcome;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

/// The state of a durable command. Terminal states never change.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// Stored, and not sent.
    Queued,
    /// Committed as sent; the agent may or may not have it.
    Delivered,
    /// The agent reported its start.
    Running,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    Expired,
    Rejected,
    /// Sent or started, and its result can't be known.
    Lost,
    /// Left out before anything was sent, because the request asked to leave out such agents.
    Skipped,
}

impl CommandState {
    /// True for states that never change.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Delivered | Self::Running)
    }

    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
        }
    }
}

impl From<Outcome> for CommandState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Expired => Self::Expired,
            Outcome::Rejected => Self::Rejected,
            Outcome::Lost => Self::Lost,
        }
    }
}

/// Why the server itself ended a command, without a report from its agent.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `expires_at` passed while it was queued.
    ExpiredInQueue,
    /// It was cancelled while it was queued.
    CancelledInQueue,
    /// The agent was offline for longer than `lost_after_ms`.
    AgentAway,
    /// A basic agent did not answer within `timeout_ms` and a minute.
    NoResponse,
    /// The agent reconnected with another ledger, or with an older copy of it.
    LedgerReplaced,
    /// The agent had reported the start, and its inventory does not list the command any more.
    MissingFromInventory,
    /// The agent was deleted on the server.
    AgentDeleted,
    /// The agent's key did not allow it any more when it was about to be sent.
    PermissionRevoked,
    /// The API key that requested it was revoked or had expired when it was about to be sent.
    ApiKeyInvalid,
    /// The limits of the API key that requested it did not allow it any more when it was about to be
    /// sent: the key or the tags of the agent were changed.
    OutsideKeyLimits,
    /// Another person refused the request for its approval.
    ApprovalRefused,
    /// It was not approved in time.
    ApprovalExpired,
    /// Its secret parameters could not be sent to its agent.
    SecretsUndeliverable,
    /// Its agent is a basic one, which takes no standard input.
    StdinUndeliverable,
    /// Its agent was offline, and its job skips offline agents.
    SkippedOffline,
    /// The host's manifest did not have the script, and its job skips such hosts.
    SkippedUnknownScript,
    /// The parameters did not match the host's manifest, and its job skips such hosts.
    SkippedInvalidParameters,
    /// The host's policy did not allow ad-hoc commands, and its job skips such hosts.
    SkippedArgvNotAllowed,
    /// The host runs no scripts of the library, and its job skips such hosts.
    SkippedLibraryNotAllowed,
    /// The host does not let the script read standard input, and its job skips such hosts.
    SkippedStdinNotAllowed,
    /// Its rollout was aborted before it was sent.
    AbortedInQueue,
}

impl EndReason {
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExpiredInQueue => "expired_in_queue",
            Self::CancelledInQueue => "cancelled_in_queue",
            Self::AgentAway => "agent_away",
            Self::NoResponse => "no_response",
            Self::LedgerReplaced => "ledger_replaced",
            Self::MissingFromInventory => "missing_from_inventory",
            Self::AgentDeleted => "agent_deleted",
            Self::PermissionRevoked => "permission_revoked",
            Self::ApiKeyInvalid => "api_key_invalid",
            Self::OutsideKeyLimits => "outside_key_limits",
            Self::ApprovalRefused => "approval_refused",
            Self::ApprovalExpired => "approval_expired",
            Self::SecretsUndeliverable => "secrets_undeliverable",
            Self::StdinUndeliverable => "stdin_undeliverable",
            Self::SkippedOffline => "skipped_offline",
            Self::SkippedUnknownScript => "skipped_unknown_script",
            Self::SkippedInvalidParameters => "skipped_invalid_parameters",
            Self::SkippedArgvNotAllowed => "skipped_argv_not_allowed",
            Self::SkippedLibraryNotAllowed => "skipped_library_not_allowed",
            Self::SkippedStdinNotAllowed => "skipped_stdin_not_allowed",
            Self::AbortedInQueue => "aborted_in_queue",
        }
    }

    /// A sentence that says what happened and what to do.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ExpiredInQueue => {
                "the agent did not come online before the command expired; it was never sent"
            }
            Self::CancelledInQueue => "the command was cancelled before it was sent",
            Self::AgentAway => {
                "the agent stayed away too long after it was sent the command; whether it ran is unknown until the agent returns"
            }
            Self::NoResponse => {
                "the agent did not answer in time; whether the command ran is unknown"
            }
            Self::LedgerReplaced => {
                "the agent came back with a new or older ledger (reinstalled or restored from a backup?); whether the command ran is unknown"
            }
            Self::MissingFromInventory => {
                "the agent reported the start and no longer knows the command; check the host before running it again"
            }
            Self::AgentDeleted => {
                "the agent was deleted; if it had been sent the command, whether it ran is unknown"
            }
            Self::PermissionRevoked => {
                "the agent's key no longer allows this command; it was never sent"
            }
            Self::ApiKeyInvalid => {
                "the API key that requested it was revoked or has expired; it was never sent"
            }
            Self::OutsideKeyLimits => {
                "the limits of the API key that requested it do not allow it any more, because the key or the agent's tags were changed; it was never sent"
            }
            Self::ApprovalRefused => "another person refused to approve it; it was never sent",
            Self::ApprovalExpired => "it was not approved in time, and was never sent",
            Self::StdinUndeliverable => {
                "its agent is a basic one, which takes no standard input; it was never sent: send it to another agent"
            }
            Self::SecretsUndeliverable => {
                "its secret parameters can't be opened here, or the agent is now one that can't keep them; it was never sent: send it again"
            }
            Self::SkippedOffline => {
                "the agent was offline, and the job skips such agents; it was never sent"
            }
            Self::SkippedUnknownScript => {
                "the host's manifest does not have the script, and the job skips such hosts; it was never sent"
            }
            Self::SkippedInvalidParameters => {
                "the parameters do not match the host's manifest, and the job skips such hosts; it was never sent"
            }
            Self::SkippedArgvNotAllowed => {
                "the host's policy does not allow ad-hoc commands, and the job skips such hosts; it was never sent"
            }
            Self::SkippedLibraryNotAllowed => {
                "the host's policy or its agent's version does not allow scripts of the library, and the job skips such hosts; it was never sent"
            }
            Self::SkippedStdinNotAllowed => {
                "the host does not let the script read standard input, and the job skips such hosts; it was never sent"
            }
            Self::AbortedInQueue => "the job was aborted before it was sent",
        }
    }
}

/// An event that may change the state of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEvent {
    /// The command was committed as sent.
    Delivered,
    /// The agent's inventory lists it as accepted.
    ListedAccepted,
    /// The agent reported that the child was started, now or in its inventory.
    Started,
    /// The agent's complete inventory does not list it.
    Unlisted,
    /// The agent reported the result.
    Reported(Outcome),
    /// A person requested the cancellation.
    CancelRequested,
    /// The server ends the command.
    Ended(EndReason),
}

/// The effect of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandTransition {
    /// The command changes to this state.
    To(CommandState),
    /// The command keeps its state.
    Stay,
    /// The command had already ended. The report is stored beside the result, and the state stays.
    Late,
}

/// The only table of transitions.
pub fn step(state: CommandState, event: CommandEvent) -> CommandTransition {
    use CommandState::{Cancelled, Delivered, Expired, Lost, Queued, Rejected, Running, Skipped};
    if state.is_terminal() {
        return match event {
            CommandEvent::Reported(_) => CommandTransition::Late,
            _ => CommandTransition::Stay,
        };
    }
    match (state, event) {
        (_, CommandEvent::Reported(outcome)) => CommandTransition::To(outcome.into()),
        (Queued, CommandEvent::Delivered) => CommandTransition::To(Delivered),
        // A queued command that the agent has was delivered before the server was restored from a
        // backup.
        (Queued, CommandEvent::ListedAccepted) => CommandTransition::To(Delivered),
        (Queued | Delivered, CommandEvent::Started) => CommandTransition::To(Running),
        // A command that was sent and never arrived may be sent again. One that ran may not.
        (Delivered, CommandEvent::Unlisted) => CommandTransition::To(Queued),
        (Running, CommandEvent::Unlisted) => CommandTransition::To(Lost),
        (Queued, CommandEvent::CancelRequested) => CommandTransition::To(Cancelled),
        (Queued, CommandEvent::Ended(EndReason::ExpiredInQueue | EndReason::ApprovalExpired)) => {
            CommandTransition::To(Expired)
        }
        (Queued, CommandEvent::Ended(EndReason::CancelledInQueue)) => {
            CommandTransition::To(Cancelled)
        }
        (Queued, CommandEvent::Ended(EndReason::AgentDeleted | EndReason::AbortedInQueue)) => {
            CommandTransition::To(Cancelled)
        }
        (
            Queued,
            CommandEvent::Ended(
                EndReason::SkippedOffline
                | EndReason::SkippedUnknownScript
                | EndReason::SkippedInvalidParameters
                | EndReason::SkippedArgvNotAllowed
                | EndReason::SkippedLibraryNotAllowed
                | EndReason::SkippedStdinNotAllowed,
            ),
        ) => CommandTransition::To(Skipped),
        (
            Queued,
            CommandEvent::Ended(
                EndReason::PermissionRevoked
                | EndReason::ApiKeyInvalid
                | EndReason::OutsideKeyLimits
                | EndReason::ApprovalRefused,
            ),
        ) => CommandTransition::To(Rejected),
        (
            Delivered | Running,
            CommandEvent::Ended(
                EndReason::AgentAway
                | EndReason::NoResponse
                | EndReason::LedgerReplaced
                | EndReason::MissingFromInventory
                | EndReason::AgentDeleted,
            ),
        ) => CommandTransition::To(Lost),
        _ => CommandTransition::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator as _;

    fn events() -> Vec<CommandEvent> {
        let mut events = vec![
            CommandEvent::Delivered,
            CommandEvent::ListedAccepted,
            CommandEvent::Started,
            CommandEvent::Unlisted,
            CommandEvent::CancelRequested,
            CommandEvent::Reported(Outcome::Succeeded),
            CommandEvent::Reported(Outcome::Lost),
        ];
        events.extend(EndReason::iter().map(CommandEvent::Ended));
        events
    }

    #[test]
    fn terminal_states_never_change() {
        for state in CommandState::iter().filter(|state| state.is_terminal()) {
            for event in events() {
                assert!(
                    !matches!(step(state, event), CommandTransition::To(_)),
                    "{state:?} moved on {event:?}"
                );
            }
        }
    }

    #[test]
    fn a_running_command_is_never_queued_again() {
        for event in events() {
            assert_ne!(
                step(CommandState::Running, event),
                CommandTransition::To(CommandState::Queued)
            );
            assert_ne!(
                step(CommandState::Running, event),
                CommandTransition::To(CommandState::Delivered)
            );
        }
    }

    #[test]
    fn only_an_agent_that_lacks_a_delivered_command_sends_it_back_to_the_queue() {
        for state in CommandState::iter() {
            for event in events() {
                if step(state, event) == CommandTransition::To(CommandState::Queued) {
                    assert_eq!((state, event), (CommandState::Delivered, CommandEvent::Unlisted));
                }
            }
        }
    }

    #[test]
    fn names_in_database_and_json_agree() {
        for state in CommandState::iter() {
            assert_eq!(<&str>::from(state), state.as_str());
            assert_eq!(serde_json::to_value(state).expect("plain"), state.as_str());
        }
        for reason in EndReason::iter() {
            assert_eq!(<&str>::from(reason), reason.as_str());
        }
    }
}
