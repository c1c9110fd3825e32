//! Calls of scripts with a trigger: what a command pins of its call, and how a call ended.

use muster_protocol::frame::Outcome;
use muster_protocol::library::{CallPart, CallReport};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, ScheduleId, TriggerStateId};
use crate::domain::time::Timestamp;

/// The call that a command is: the field `call` of its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedCall {
    pub schedule_id: ScheduleId,
    /// Main runs without the trigger.
    pub is_forced: bool,
}

impl PinnedCall {
    /// The call in the data of a command, JSON.
    pub fn of_data(data: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Data {
            call: Option<PinnedCall>,
        }
        serde_json::from_str::<Data>(data).ok()?.call
    }
}

/// How a call ended.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// Main ran and succeeded.
    MainSucceeded,
    /// The trigger decided that main does not run.
    MainSkipped,
    TriggerFailed,
    TriggerTimedOut,
    MainFailed,
    MainTimedOut,
    Cancelled,
    /// Neither part was started.
    NotStarted,
    /// It succeeded, but its data can't be stored: not JSON, or too large.
    DataRefused,
    /// It succeeded, but another call has changed the data meanwhile.
    DataConflict,
}

impl CallOutcome {
    /// How a call ended. `is_stored`: its new data was stored.
    pub fn of(outcome: Outcome, report: &CallReport, is_stored: bool) -> Self {
        let is_trigger = report.last_part == Some(CallPart::Trigger);
        match (outcome, report.last_part) {
            (Outcome::Cancelled, _) => Self::Cancelled,
            (_, None) => Self::NotStarted,
            (Outcome::Succeeded, Some(_)) if report.data.is_none() => Self::DataRefused,
            (Outcome::Succeeded, Some(_)) if !is_stored => Self::DataConflict,
            (Outcome::Succeeded, Some(CallPart::Trigger)) => Self::MainSkipped,
            (Outcome::Succeeded, Some(CallPart::Main)) => Self::MainSucceeded,
            (Outcome::TimedOut, _) if is_trigger => Self::TriggerTimedOut,
            (Outcome::TimedOut, _) => Self::MainTimedOut,
            (_, _) if is_trigger => Self::TriggerFailed,
            (_, _) => Self::MainFailed,
        }
    }
}

/// What a schedule keeps for one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerStateRecord {
    pub id: TriggerStateId,
    pub schedule_id: ScheduleId,
    pub agent_id: AgentId,
    /// JSON.
    pub data: String,
    /// How often the data was changed.
    pub data_version: i64,
    pub data_changed_at: Option<Timestamp>,
    pub call_count: i64,
    pub last_call_at: Timestamp,
    pub last_command_id: CommandId,
    /// Of the last call that reported one.
    pub last_outcome: Option<CallOutcome>,
    pub last_outcome_at: Option<Timestamp>,
    /// The state of the last call; `None` if its history was deleted.
    pub last_state: Option<CommandState>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::library::CallDataProblem;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop::sample::select(vec![
            Outcome::Succeeded,
            Outcome::Failed,
            Outcome::TimedOut,
            Outcome::Cancelled,
            Outcome::Lost,
        ])
    }

    proptest! {
        #[test]
        fn only_a_call_whose_data_was_stored_counts_as_successful(
            outcome in outcome(),
            is_main in any::<Option<bool>>(),
            has_data in any::<bool>(),
            is_stored in any::<bool>(),
        ) {
            let part = |is_main| if is_main { CallPart::Main } else { CallPart::Trigger };
            let report = CallReport {
                data_version: 1,
                last_part: is_main.map(part),
                data: has_data.then(|| "{}".to_owned()),
                data_problem: (!has_data).then_some(CallDataProblem::NotJson),
            };
            let found = CallOutcome::of(outcome, &report, is_stored);
            let is_success = matches!(found, CallOutcome::MainSucceeded | CallOutcome::MainSkipped);
            prop_assert_eq!(
                is_success,
                outcome == Outcome::Succeeded && is_main.is_some() && has_data && is_stored
            );
            prop_assert!(found != CallOutcome::MainSucceeded || is_main == Some(true));
        }
    }

    #[test]
    fn a_call_is_read_from_the_data_of_its_command_only() {
        let id = ScheduleId::new();
        let call = PinnedCall { schedule_id: id, is_forced: true };
        let data = serde_json::json!({"script": "library:a", "call": call}).to_string();
        assert_eq!(PinnedCall::of_data(&data), Some(call));
        for other in ["", "{}", r#"{"call": null}"#, r#"{"call": {"schedule_id": 1}}"#] {
            assert_eq!(PinnedCall::of_data(other), None, "{other}");
        }
    }
}
