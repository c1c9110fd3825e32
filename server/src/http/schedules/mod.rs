//! Schedules of jobs and their fires; hooks and their deliveries.

pub(super) mod calendars;
pub(super) mod fires;
mod hook_views;
pub(super) mod hooks;
pub(super) mod schedules;
mod trigger_states;
mod views;
