//! Releases of agent and supervisor, and the groups that follow them.

pub(super) mod groups;
pub(super) mod releases;
