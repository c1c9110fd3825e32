//! Commands, jobs, rollouts, executions and their output.

pub(super) mod approval_rules;
pub(super) mod approvals;
pub(super) mod commands;
pub(super) mod executions;
pub(super) mod jobs;
pub(super) mod ladder;
pub(super) mod live_output;
pub(super) mod output;
pub(super) mod output_search;
pub(super) mod steps;
