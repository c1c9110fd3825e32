//! Rollouts of assignments: a version reaches the agents of an assignment in waves. Pure: the caller passes in what
//! agents have reported.
//!
//! [`plan`] decides the next step with the engine of `domain/waves`. Agents that no wave has reached keep the former
//! version.

pub mod plan;

use muster_protocol::frame::Outcome;
use muster_protocol::package::{ServiceHealth, ServiceReport, ServiceState};
use strum::{EnumString, IntoStaticStr};

use super::assignment_records::{AssignedKind, AssignmentStateRecord};
use crate::domain::ids::{AgentId, AssignmentId, ContentId, TenantId};
use crate::domain::time::Timestamp;
use crate::domain::waves::amount::Amount;

/// A wave waits this long for an agent that went offline after the wave had started.
const UNREACHABLE_AFTER_MS: u64 = 15 * 60_000;

/// A rollout that is under way. There is none once every agent has the version, or a person has ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentRollout {
    pub assignment_id: AssignmentId,
    pub tenant_id: TenantId,
    /// What agents have until their wave starts; `None`: nothing, because the assignment is new.
    pub former: Option<FormerVersion>,
    /// JSON.
    pub wave_size: String,
    /// JSON.
    pub max_failures: String,
    pub healthy_for_ms: i64,
    pub state: RolloutState,
    pub halt_reason: Option<String>,
    /// The last wave that was started, counted from 1; 0 before the first.
    pub wave: i32,
    /// The last wave that has passed its health gate, or whose gate was waived.
    pub healthy_wave: i32,
    pub started_at: Timestamp,
    pub changed_at: Timestamp,
}

/// The version that a rollout replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerVersion {
    pub content_id: ContentId,
    pub version: String,
}

/// Whether waves start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RolloutState {
    Running,
    /// It halted by itself: too many agents failed.
    Halted,
}

impl RolloutState {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The share of one agent, once a wave has reached it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutShare {
    pub agent_id: AgentId,
    pub wave: i32,
    pub state: ShareState,
    pub changed_at: Timestamp,
}

/// How far an agent is with the version that a wave has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ShareState {
    /// Its report does not say yet.
    Updating,
    /// It has been offline for a while since its wave started. Its report counts when it connects.
    Unreachable,
    Done,
    Failed,
    /// It failed, and a person resumed the rollout nevertheless. It counts no more.
    Accepted,
}

impl ShareState {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How a version reaches the agents.
#[derive(Debug, Clone, Copy)]
pub struct WavePolicy {
    pub wave_size: Amount,
    /// More failures than this halt the rollout.
    pub max_failures: Amount,
    /// How long each agent of a wave must stay connected before the next wave starts.
    pub healthy_for_ms: u64,
}

/// What an agent's last report says about this version.
pub fn state_of_report(
    report: Option<&AssignmentStateRecord>,
    version: &str,
    kind: AssignedKind,
) -> ShareState {
    let Some(report) = report.filter(|report| report.version == version) else {
        return ShareState::Updating;
    };
    match (report.state.as_str(), kind) {
        ("failed", _) => ShareState::Failed,
        ("installed", AssignedKind::Task | AssignedKind::Script) => ShareState::Done,
        ("installed", AssignedKind::Service) => {
            report.service.as_ref().map_or(ShareState::Updating, state_of_service)
        }
        _ => ShareState::Updating,
    }
}

/// The next state of a share, by what its agent has reported about the version.
pub fn next_state(
    share: &RolloutShare,
    reported: ShareState,
    is_online: bool,
    now: Timestamp,
) -> ShareState {
    match (share.state, reported) {
        (ShareState::Accepted, _) => ShareState::Accepted,
        // A report that says nothing takes nothing back.
        (ShareState::Done | ShareState::Failed, ShareState::Updating) => share.state,
        (ShareState::Unreachable, ShareState::Updating) if !is_online => ShareState::Unreachable,
        (ShareState::Updating, ShareState::Updating)
            if !is_online && share.changed_at.plus_ms(UNREACHABLE_AFTER_MS) <= now =>
        {
            ShareState::Unreachable
        }
        (_, reported) => reported,
    }
}

fn state_of_service(service: &ServiceReport) -> ShareState {
    match service.state {
        ServiceState::Waiting | ServiceState::Stopping => ShareState::Updating,
        ServiceState::Running => match service.health {
            Some(ServiceHealth::Failing) => ShareState::Failed,
            Some(ServiceHealth::Unknown) => ShareState::Updating,
            Some(ServiceHealth::Healthy) | None => ShareState::Done,
        },
        ServiceState::Backoff => ShareState::Failed,
        // A person stopped it there, which says nothing against the version.
        ServiceState::Stopped => ShareState::Done,
        ServiceState::Ended => match service.last_outcome {
            Some(Outcome::Succeeded) | None => ShareState::Done,
            Some(_) => ShareState::Failed,
        },
    }
}
