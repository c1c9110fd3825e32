//! The library: scripts and their versions.

pub(super) mod scripts;
mod versions;
mod views;
