//! Agents and what is known of them.

pub mod agent;
pub mod agent_event;
pub mod agent_ledger;
pub mod agent_manifest;
pub mod telemetry_sample;
