//! Commands, jobs and rollouts: stored once, ended once.

mod approvals;
mod idempotency;
mod jobs;
mod locks;
mod reconciliation;
mod retries;
mod rollouts;
mod settlement;
mod sweeps;
