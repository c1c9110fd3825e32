//! Agents, their manifests and targets.

pub mod agent;
pub mod forbidden_commands;
pub mod records;
pub mod reported_manifest;
pub mod target;
