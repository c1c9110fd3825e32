//! Commands and jobs, from the request to the result and the output.

mod ad_hoc;
mod approvals;
mod attestations;
mod bad_input;
mod capsules;
mod crash_recovery;
mod execute;
mod executions;
mod fleet_runs;
mod jobs;
mod ladder;
mod output;
mod policy;
mod retries_and_locks;
mod rollouts;
mod runaways;
mod scripts;
mod secrets;
mod stdin;
mod steps;
mod transient;
