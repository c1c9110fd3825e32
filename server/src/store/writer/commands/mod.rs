//! Commands, jobs, rollouts, executions and their output.

pub(super) mod advance_rollout;
pub(super) mod append_output;
pub(super) mod finish_job;
pub(super) mod index_history;
pub(super) mod mark_delivered;
pub(super) mod record_progress;
mod retry;
pub(super) mod settle;
pub(super) mod submit_command;
pub(super) mod submit_job;
