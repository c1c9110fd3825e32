//! Releases, and the groups that follow them.

pub(super) mod group_waves;
pub(super) mod groups;
pub(super) mod releases;
