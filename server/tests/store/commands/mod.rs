//! Commands, jobs and rollouts: stored once, ended once.

mod approvals;
mod idempotency;
mod jobs;
mod reconciliation;
mod rollouts;
mod settlement;
mod sweeps;
