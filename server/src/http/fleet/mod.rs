//! Agents and targets.

pub(super) mod agents;
mod scripts;
pub(super) mod targets;
