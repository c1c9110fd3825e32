//! Executions: each is one run of a script on this host, from the accepted command to its result.
//!
//! `ledger` records what was accepted and how it ended. `shim` is the process that runs one script
//! and outlives the agent. `manager` starts shims, watches them and settles their commands; the
//! other modules serve these three. Nothing here knows sessions or links.

pub mod environment;
pub mod environments;
pub mod file_transfers;
mod launcher;
pub mod ledger;
pub mod library_cache;
mod manager;
mod notifier;
mod orphans;
mod output_hashes;
pub mod output_reader;
pub mod output_release;
pub mod packages;
mod program;
mod secret_files;
pub mod shim;
mod shim_watch;

pub use launcher::{
    ask_to_cancel, cancelled_by, holder, shim_program, start_fact_collector, start_shim,
};
pub use manager::{
    ExecutionEvent, ExecutionManager, ExecutionManagerError, MAX_TASK_OUTPUT_BYTES, PlannedRun,
    RunPlanner, RunRefusal, remove_assignments,
};
pub use notifier::Notifier;
pub use orphans::kill_orphans;
pub use shim_watch::watch_child;
