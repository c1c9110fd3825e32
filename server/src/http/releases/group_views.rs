//! Groups as the API shows them.

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

/// Agents that are to be of one version.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct GroupView {
    id: GroupId,
    name: String,
    #[schema(value_type = TargetSpec)]
    target: Value,
    /// `null` leaves agents as they are.
    desired_version: Option<String>,
    state: GroupState,
    /// Why it halted.
    halt_reason: Option<String>,
    /// The last wave that was begun.
    wave: i32,
    #[schema(value_type = Object)]
    wave_size: Value,
    #[schema(value_type = Object)]
    max_failures: Value,
    healthy_for_ms: i64,
    /// Whose generation it is.
    requested_by: ApiKeyId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// A group and where its agents are.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct GroupWithAgents {
    #[serde(flatten)]
    group: GroupView,
    agent_count: usize,
    /// Agents that are of the wanted version.
    up_to_date_count: usize,
    updating_count: usize,
    /// Agents that are asked again later.
    pending_count: usize,
    failed_count: usize,
    /// Agents that were asked and have been offline since: nobody waits for them.
    unreachable_count: usize,
    /// Agents of platforms for which the wanted version has nothing: they are not asked.
    incompatible_count: usize,
    /// The first 50 that failed, are asked again or are away, with the reason.
    problems: Vec<AgentProblemView>,
    /// The first 50 that the target means and that belong to an older group.
    claimed_by_other_group: Vec<AgentId>,
}

/// Why an agent is not there.
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
    fn from(now: GroupSnapshot) -> Self {
        Self {
            group: now.row.into(),
            agent_count: now.agents,
            up_to_date_count: now.there,
            updating_count: now.updating,
            pending_count: now.pending,
            failed_count: now.failed,
            unreachable_count: now.unreachable,
            incompatible_count: now.unfit,
            problems: now.problems.into_iter().map(AgentProblemView::from).collect(),
            claimed_by_other_group: now.claimed_by_other_group,
        }
    }
}
