//! Commands, jobs, rollouts, executions and their output.

pub mod command;
pub mod command_report;
pub mod idempotency_record;
pub mod job;
pub mod output_blob;
pub mod output_chunk;
pub mod rollout;
