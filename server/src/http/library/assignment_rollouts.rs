//! What the API takes and shows of a version that reaches the agents of an assignment in waves.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::library::assignment_records::AssignmentRecord;
use crate::domain::library::assignment_rollout::AssignmentRollout;
use crate::domain::time::Timestamp;
use crate::http::views::stored_json;
use crate::services::library::assignments::RolloutRequest;

/// Brings a version to the agents in waves. Agents that no wave has reached keep the former version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AssignmentRolloutBody {
    /// Agents of a wave: a number, or a percentage such as `"10%"`.
    #[schema(value_type = Object)]
    wave_size: Value,
    /// Failed agents that the rollout tolerates: a number, or a percentage. One more halts it. Default: 0.
    #[schema(value_type = Option<Object>)]
    max_failures: Option<Value>,
    /// How long each agent of a wave must stay connected before the next wave starts, at most a day. Default: 0.
    healthy_for_ms: Option<u64>,
}

impl From<AssignmentRolloutBody> for RolloutRequest {
    fn from(body: AssignmentRolloutBody) -> Self {
        Self {
            wave_size: body.wave_size,
            max_failures: body.max_failures,
            healthy_for_ms: body.healthy_for_ms,
        }
    }
}

/// A version that reaches the agents in waves.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AssignmentRolloutView {
    /// `running` or `halted`.
    #[schema(example = "running")]
    state: &'static str,
    /// Why it halted.
    halt_reason: Option<String>,
    /// The last wave that was started, counted from 1; 0 before the first.
    wave: i32,
    /// What agents have until their wave starts; `null` if the assignment is new.
    #[schema(example = "package:backup@1.1.0")]
    former_script: Option<String>,
    #[schema(value_type = Object)]
    wave_size: Value,
    #[schema(value_type = Object)]
    max_failures: Value,
    healthy_for_ms: i64,
    started_at: Timestamp,
}

impl AssignmentRolloutView {
    pub(super) fn of(row: &AssignmentRecord, rollout: AssignmentRollout) -> Self {
        let former = rollout.former.map(|former| row.reference_to(&former.version));
        Self {
            state: rollout.state.as_str(),
            halt_reason: rollout.halt_reason,
            wave: rollout.wave,
            former_script: former,
            wave_size: stored_json(&rollout.wave_size),
            max_failures: stored_json(&rollout.max_failures),
            healthy_for_ms: rollout.healthy_for_ms,
            started_at: rollout.started_at,
        }
    }
}
