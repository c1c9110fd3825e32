//! Agents and what is known of them.

pub mod agent_level;
pub mod manifest_digest;
pub mod target;
