//! The library: scripts and their versions, and packages.

mod packages;
pub(super) mod scripts;
mod starter;
mod versions;
mod views;
