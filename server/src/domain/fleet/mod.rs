//! Agents and what is known of them.

pub mod agent;
pub mod manifest_digest;
pub mod target;
