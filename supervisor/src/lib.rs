//! The supervisor: starts the Muster agent, and restarts or updates it by its exit code.
//!
//! It runs on every host and must not fail, so it stays small: one thread (plus one that writes the
//! log file, if there is one), no network, few dependencies. It does not know what the agent does and
//! leaves the agent's executions alone.

pub mod fatal_reason;
pub mod fault_injection;
pub mod handover;
pub mod layout;
pub mod log;
pub mod platform;
pub mod policy;
pub mod reasons;
pub mod settings;
pub mod status;
pub mod supervise;
pub mod update;
