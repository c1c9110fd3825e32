//! Commands, jobs, rollouts, executions and their output.

pub mod command_state;
pub mod job_state;
pub mod output_event;
pub mod range;
pub mod records;
pub mod rollout;
pub mod trigger;
