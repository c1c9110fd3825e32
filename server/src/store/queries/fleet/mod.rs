//! Agents, their presence and their telemetry.

pub(super) mod adoption;
pub(super) mod agent_deletion;
pub(super) mod agents;
pub(super) mod host_rules;
pub(super) mod targets;
pub(super) mod telemetry;
