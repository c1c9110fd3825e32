//! Agents and targets.

pub(super) mod agents;
pub(super) mod targets;
