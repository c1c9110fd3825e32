//! The library: scripts and their versions.

pub(super) mod scripts;
mod starter;
mod versions;
mod views;
