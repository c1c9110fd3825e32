//! The life of a job: where it is, and how it ended.

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

use super::state::CommandState;

/// Where a job is. Terminal states never change.
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
    DeriveActiveEnum,
    utoipa::ToSchema,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// An execution is open.
    Running,
    /// Every execution succeeded.
    Succeeded,
    /// All is over, and not every execution succeeded.
    Failed,
}

impl JobState {
    /// How a job ended whose executions ended in these states.
    pub fn of_ended(states: impl IntoIterator<Item = CommandState>) -> Self {
        match states.into_iter().all(|state| state == CommandState::Succeeded) {
            true => Self::Succeeded,
            false => Self::Failed,
        }
    }

    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::{ActiveEnum as _, Iterable as _};

    #[test]
    fn names_in_database_and_json_agree() {
        for state in JobState::iter() {
            assert_eq!(state.to_value(), state.as_str());
            assert_eq!(serde_json::to_value(state).expect("plain"), state.as_str());
        }
    }

    #[test]
    fn one_execution_that_did_not_succeed_makes_a_job_fail() {
        use CommandState::{Lost, Succeeded};
        assert_eq!(JobState::of_ended([Succeeded, Succeeded]), JobState::Succeeded);
        assert_eq!(JobState::of_ended([Succeeded, Lost]), JobState::Failed);
    }
}
