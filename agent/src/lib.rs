//! The agent of one host: it holds one link to its server, keeps what it promises in a ledger, and
//! runs scripts in shims that outlive it.

mod agent;
mod clock;
mod commands;
pub mod config;
mod custody;
pub mod exec;
mod identity;
mod inbox;
mod instance;
mod key;
mod layout;
mod ledger;
mod link;
mod manifest;
mod outbox;
mod platform;
mod reconnect;
pub mod run;
mod session;
mod storage;
mod telemetry;
