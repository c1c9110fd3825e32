//! Agents, their manifests and their telemetry.

pub mod agent;
pub mod agent_event;
pub mod agent_ledger;
pub mod agent_manifest;
pub mod telemetry_sample;
