//! The supervisor: keeps a Muster agent running on its host, by the agent's exit codes.
//!
//! Small on purpose, as it lives on every host and is the part that must not fail: one thread (and one
//! for its log where it keeps one), no
//! network, few dependencies. It does not know what the agent does, and leaves the agent's jobs
//! alone.

pub mod board;
pub mod fatal_reason;
pub mod fault;
pub mod handover;
pub mod health;
pub mod layout;
pub mod log;
pub mod log_file;
pub mod notify;
pub mod platform;
pub mod policy;
pub mod sentence;
pub mod settings;
pub mod state_file;
pub mod supervise;
pub mod update;
