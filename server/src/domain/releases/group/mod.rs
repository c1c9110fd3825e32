//! Groups of agents that follow one version. Pure: the caller passes in what is known of the agents.
//!
//! [`plan`] decides the next step of a group with the engine of `domain/waves`. [`attempt`] decides
//! how the try to update one agent ended.

pub mod attempt;
pub mod cohort;
pub mod plan;
pub mod probe;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use self::cohort::Cohort;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::domain::waves::amount::Amount;

/// Whether the server rolls out a group's desired version.
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
pub enum GroupState {
    /// It does. Agents that join the group later are updated too.
    Active,
    /// A person paused the group.
    Paused,
    /// The group halted by itself: too many agents failed.
    Halted,
}

/// The state of one agent in its group's current generation.
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
pub enum UpdateState {
    /// The server will try again later.
    Pending,
    /// The update was requested, and its result is not known.
    Updating,
    /// The update was requested, and the agent has been offline for 15 minutes since. The rollout
    /// does not wait for it. Its result counts when the agent reconnects.
    Unreachable,
    Done,
    Failed,
}

/// An agent of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: AgentId,
    pub is_online: bool,
    /// When its current or last session started.
    pub connected_at: Timestamp,
    /// It runs the desired version.
    pub is_up_to_date: bool,
    /// When its attempt started, or now.
    pub cohort: Cohort,
    /// `None`: no update was requested in this generation.
    pub progress: Option<MemberProgress>,
}

/// The last attempt to update an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberProgress {
    pub wave: i32,
    pub state: UpdateState,
    /// Pending because the agent had no free slot for the command, which is no sign of a bad version.
    pub is_busy: bool,
    /// When a pending agent is tried again.
    pub due_at: Timestamp,
    pub changed_at: Timestamp,
    /// The first of its cohort.
    pub is_canary: bool,
    /// Its new version has registered, and the no-op execution decides.
    pub is_probed: bool,
}

impl Member {
    pub fn is_canary(&self) -> bool {
        self.progress.is_some_and(|progress| progress.is_canary)
    }
}

/// An agent of the next wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaveMember {
    pub id: AgentId,
    pub cohort: Cohort,
    /// The first of its cohort.
    pub is_canary: bool,
}

/// The last wave that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentWave {
    /// Counted from 1; 0 before the first.
    pub number: i32,
    /// It passed its health gate, or the gate was waived. Agents that go offline later do not matter.
    pub is_healthy: bool,
}

/// How a group rolls out a version.
#[derive(Debug, Clone, Copy)]
pub struct RolloutPolicy {
    pub wave_size: Amount,
    /// More failures than this halt the group.
    pub max_failures: Amount,
    /// How long each agent of a wave must stay connected before the next wave starts.
    pub healthy_for_ms: u64,
}
