//! The library: scripts and their versions, and packages.

mod assignment_rollouts;
mod assignments;
mod files;
mod packages;
pub(super) mod scripts;
mod services;
mod starter;
mod versions;
mod views;
