//! Releases, and the groups that follow them.

pub mod agent_update;
pub mod group;
pub mod release;
pub mod release_key_change;
