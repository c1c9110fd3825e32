//! Agents, their manifests and targets.

pub mod agent_level;
pub mod manifest_digest;
pub mod target;
