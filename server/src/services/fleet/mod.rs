//! Agents, their presence, their groups and targets.

mod adoption;
pub mod agents;
pub(super) mod group_membership;
pub(super) mod presence;
pub mod targets;
