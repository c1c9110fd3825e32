//! The life of a durable command: which state follows which, and why a command ended.

use muster_protocol::frame::Outcome;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

pub use super::end_reason::EndReason;

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
                | EndReason::SkippedFilesUnsupported
                | EndReason::SkippedKeyDeleted
                | EndReason::SkippedStepsUnsupported
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
