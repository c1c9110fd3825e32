//! Agents and targets.

pub(super) mod agent_history;
pub(super) mod agents;
mod facts;
mod scripts;
pub(super) mod targets;
