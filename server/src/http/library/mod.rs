//! The library: scripts and their versions, and packages.

mod assignments;
mod files;
mod packages;
pub(super) mod scripts;
mod services;
mod starter;
mod versions;
mod views;
