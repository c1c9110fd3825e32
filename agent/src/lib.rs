//! The agent of one host.
//!
//! It keeps one connection to its server, records every command that it accepts in a ledger, and
//! runs scripts in shims that outlive it.

pub mod agent;
pub mod clock;
pub mod commands;
pub mod config;
pub mod executions;
pub mod fault;
pub mod identity;
pub mod link;
pub mod log_output;
pub mod platform;
pub mod policy;
pub mod releases;
pub mod sessions;
pub mod storage;
pub mod subcommands;
