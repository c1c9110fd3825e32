//! Groups of agents that are to be of one version: the words, what is [`next`](next::next) and what
//! came of asking an agent ([`verdict`]). Pure: what is known of agents is passed in, and every decision
//! is made anew from it.

pub mod attempt;
pub mod plan;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::commands::rollout::amount::Amount;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;

/// Whether a group's generation is carried out.
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
    /// It is: agents that come later are brought there too.
    Active,
    /// Somebody has paused it.
    Paused,
    /// Too much went wrong.
    Halted,
}

/// Where one agent is with its group's generation.
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
    /// It is asked again later.
    Pending,
    /// It was asked, and has no verdict yet.
    Updating,
    /// It was asked, and has been offline for [`UNREACHABLE_MS`](verdict::UNREACHABLE_MS) since: nobody waits for it. What came of it
    /// counts once it is told.
    Unreachable,
    Done,
    Failed,
}

/// An agent of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: AgentId,
    /// Connected now.
    pub is_online: bool,
    /// Connected since then.
    pub connected_at: Timestamp,
    /// It is of the wanted version.
    pub is_there: bool,
    /// What was done about it.
    pub progress: Option<Progress>,
}

/// What was done about an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub wave: i32,
    pub state: UpdateState,
    /// Of a pending one: it had no room for a command, which says nothing of the version.
    pub is_busy: bool,
    /// Of a pending one.
    pub due_at: Timestamp,
    pub changed_at: Timestamp,
}

/// The last wave that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wave {
    /// ConnectionPermit from 1; 0 before the first.
    pub number: i32,
    /// Its health was seen, or waived: it is not asked for again, whoever goes away later.
    pub is_well: bool,
}

/// How a group goes about it.
#[derive(Debug, Clone, Copy)]
pub struct RolloutPolicy {
    pub wave_size: Amount,
    /// Failures that are borne.
    pub max_failures: Amount,
    /// Before the next wave, each agent of the last has to be connected for this long.
    pub healthy_for_ms: u64,
}
