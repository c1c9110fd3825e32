//! Schedules of jobs, and their fires.

pub(super) mod fires;
pub(super) mod schedules;
mod views;
