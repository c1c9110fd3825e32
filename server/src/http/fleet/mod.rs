//! Agents and what is known of them.

pub(super) mod agents;
pub(super) mod targets;
