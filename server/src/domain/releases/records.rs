//! What the API shows of stored rows: plain data, without hashes, sealed values and columns that only
//! the store needs. The entities convert their rows.

use super::group::{GroupState, UpdateState};
use crate::domain::ids::{AgentId, CommandId, GroupId, PrincipalId, ReleaseId};
use crate::domain::time::Timestamp;

/// A group of agents that follow one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    pub id: GroupId,
    pub name: String,
    /// A `TargetSpec`, JSON.
    pub target: String,
    /// `None`: the group does not change the version of its agents.
    pub desired_version: Option<String>,
    /// A number or a percentage, JSON.
    pub wave_size: String,
    /// The same.
    pub max_failures: String,
    pub healthy_for_ms: i64,
    pub state: GroupState,
    /// Why it halted, as a sentence; only while it is halted.
    pub halt_reason: Option<String>,
    /// The last wave that was started; 0 before the first.
    pub wave: i32,
    /// The API key that set the desired version.
    pub requested_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

/// The update of an agent in its group's current generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentUpdateRecord {
    pub agent_id: AgentId,
    pub wave: i32,
    pub state: UpdateState,
    /// The command that requested the update last. It may never have been stored.
    pub command_id: CommandId,
    /// Why the agent is pending, unreachable or failed.
    pub code: Option<String>,
    pub message: Option<String>,
    pub changed_at: Timestamp,
}

/// A release, without its descriptor and signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRecord {
    pub id: ReleaseId,
    pub version: String,
    pub created_at: Timestamp,
    pub created_by: PrincipalId,
    /// `None` for a draft.
    pub published_at: Option<Timestamp>,
    pub published_by: Option<PrincipalId>,
    /// Hosts no longer install it.
    pub withdrawn_at: Option<Timestamp>,
}
