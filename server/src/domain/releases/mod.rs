//! Releases of agent and supervisor, and the groups that follow them.

pub mod group;
pub mod newest_release;
pub mod records;
