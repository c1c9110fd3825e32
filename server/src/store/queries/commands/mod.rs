//! Commands, jobs, rollouts, executions and their output.

pub(super) mod changes;
pub(super) mod commands;
pub(super) mod dispatch;
pub(super) mod history;
pub(super) mod job_event_snapshots;
pub(super) mod jobs;
pub(super) mod output;
pub(super) mod rollouts;
