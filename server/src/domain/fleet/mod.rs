//! Agents, their manifests and targets.

pub mod agent;
pub mod reported_manifest;
pub mod target;
