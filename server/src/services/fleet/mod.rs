//! Agents and what is known of them.

pub mod agents;
pub(super) mod group_membership;
pub(super) mod presence;
pub mod targets;
