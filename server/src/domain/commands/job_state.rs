//! The life of a job: its state, and how it ended.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use super::command_state::CommandState;

/// The state of a job. Terminal states never change.
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
pub enum JobState {
    /// At least one execution is open.
    Running,
    /// A rule asks for another person's approval: nothing is sent before it.
    AwaitingApproval,
    /// A person paused its rollout: no execution starts, and running ones continue.
    Paused,
    /// Its rollout halted by itself: no execution starts until a person resumes.
    Halted,
    /// Every execution succeeded, except for skipped agents.
    Succeeded,
    /// All executions have ended, and not all succeeded.
    Failed,
    /// A person cancelled the job, and not every execution succeeded.
    Cancelled,
    /// A person ended the queued executions, and the running ones continued.
    Aborted,
}

/// How a person ended a job early.
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
pub enum Stop {
    /// All open executions were cancelled.
    Cancelled,
    /// Queued executions ended, and running ones continued.
    Aborted,
}

impl Stop {
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
        }
    }
}

impl JobState {
    /// The state of a finished job whose executions ended like this. A job that skipped every agent
    /// has not succeeded.
    pub fn of_ended(stop: Option<Stop>, ends: impl IntoIterator<Item = CommandState>) -> Self {
        let (skipped, others): (Vec<_>, Vec<_>) =
            ends.into_iter().partition(|state| *state == CommandState::Skipped);
        let has_run = !others.is_empty() || skipped.is_empty();
        let is_success = others.iter().all(|state| *state == CommandState::Succeeded);
        match stop {
            _ if has_run && is_success => Self::Succeeded,
            Some(Stop::Cancelled) => Self::Cancelled,
            Some(Stop::Aborted) => Self::Aborted,
            None => Self::Failed,
        }
    }

    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator as _;

    #[test]
    fn names_in_database_and_json_agree() {
        for state in JobState::iter() {
            assert_eq!(<&str>::from(state), state.as_str());
            assert_eq!(serde_json::to_value(state).expect("plain"), state.as_str());
        }
        for stop in Stop::iter() {
            assert_eq!(<&str>::from(stop), stop.as_str());
        }
    }

    #[test]
    fn one_execution_that_did_not_succeed_makes_a_job_fail() {
        use CommandState::{Lost, Succeeded};
        let ended =
            |stop, states: &[CommandState]| JobState::of_ended(stop, states.iter().copied());
        assert_eq!(ended(None, &[Succeeded, Succeeded]), JobState::Succeeded);
        assert_eq!(ended(None, &[Succeeded, Lost]), JobState::Failed);
        assert_eq!(ended(Some(Stop::Aborted), &[Succeeded, Lost]), JobState::Aborted);
        assert_eq!(ended(Some(Stop::Cancelled), &[Lost]), JobState::Cancelled);
        assert_eq!(ended(Some(Stop::Cancelled), &[Succeeded]), JobState::Succeeded, "too late");
    }

    #[test]
    fn who_was_skipped_fails_nothing_unless_everybody_was() {
        let (skipped, ran) = (CommandState::Skipped, CommandState::Succeeded);
        assert_eq!(JobState::of_ended(None, [ran, skipped]), JobState::Succeeded);
        assert_eq!(JobState::of_ended(None, [skipped]), JobState::Failed);
        assert_eq!(JobState::of_ended(None, []), JobState::Succeeded);
    }
}
