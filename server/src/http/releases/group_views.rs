//! Groups in API responses.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{AgentId, ApiKeyId, CommandId, GroupId};
use crate::domain::releases::group::{GroupState, UpdateState};
use crate::domain::time::Timestamp;
use crate::http::views::stored_json;
use crate::services::releases::groups::GroupSnapshot;
use crate::store::entities::releases::{agent_update, group};

/// A group of agents that follow one version.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct GroupView {
    id: GroupId,
    name: String,
    #[schema(value_type = TargetSpec)]
    target: Value,
    /// `null`: the group does not change the version of its agents.
    desired_version: Option<String>,
    state: GroupState,
    /// Why the group halted.
    halt_reason: Option<String>,
    /// The last wave that was started.
    wave: i32,
    #[schema(value_type = Object)]
    wave_size: Value,
    #[schema(value_type = Object)]
    max_failures: Value,
    healthy_for_ms: i64,
    /// The API key that set the desired version.
    requested_by: ApiKeyId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// A group and the state of its agents.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct GroupWithAgents {
    #[serde(flatten)]
    group: GroupView,
    agent_count: usize,
    /// Agents that run the desired version.
    up_to_date_count: usize,
    updating_count: usize,
    /// Agents that are tried again later.
    pending_count: usize,
    failed_count: usize,
    /// Agents that went offline after the update was requested. The rollout does not wait for them.
    unreachable_count: usize,
    /// Agents on platforms that the desired release has no programs for. They are not updated.
    incompatible_count: usize,
    /// The first 50 agents that failed, are pending or are unreachable, with the reason.
    problems: Vec<AgentProblemView>,
    /// The first 50 agents that the target matches and that belong to an older group.
    claimed_by_other_group: Vec<AgentId>,
}

/// Why an agent is not up to date.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct AgentProblemView {
    agent_id: AgentId,
    wave: i32,
    state: UpdateState,
    code: Option<String>,
    message: Option<String>,
    command_id: CommandId,
    at: Timestamp,
}

impl From<group::Model> for GroupView {
    fn from(row: group::Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            target: stored_json(&row.target),
            desired_version: row.desired_version,
            state: row.state,
            halt_reason: row.halt_reason,
            wave: row.wave,
            wave_size: stored_json(&row.wave_size),
            max_failures: stored_json(&row.max_failures),
            healthy_for_ms: row.healthy_for_ms,
            requested_by: row.requested_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<agent_update::Model> for AgentProblemView {
    fn from(row: agent_update::Model) -> Self {
        Self {
            agent_id: row.agent_id,
            wave: row.wave,
            state: row.state,
            code: row.code,
            message: row.message,
            command_id: row.command_id,
            at: row.changed_at,
        }
    }
}

impl From<GroupSnapshot> for GroupWithAgents {
    fn from(snapshot: GroupSnapshot) -> Self {
        Self {
            group: snapshot.row.into(),
            agent_count: snapshot.agents,
            up_to_date_count: snapshot.up_to_date,
            updating_count: snapshot.updating,
            pending_count: snapshot.pending,
            failed_count: snapshot.failed,
            unreachable_count: snapshot.unreachable,
            incompatible_count: snapshot.incompatible,
            problems: snapshot.problems.into_iter().map(AgentProblemView::from).collect(),
            claimed_by_other_group: snapshot.claimed_by_other_group,
        }
    }
}
