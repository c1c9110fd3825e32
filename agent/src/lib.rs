//! The agent of one host: it holds one link to its server, keeps what it promises in a ledger, and
//! runs scripts in shims that outlive it.

pub mod agent;
pub mod clock;
pub mod commands;
pub mod config;
pub mod custody;
pub mod doctor;
pub mod exec;
pub mod fault;
pub mod guard;
pub mod host;
pub mod identity;
pub mod inbox;
pub mod instance;
pub mod key;
pub mod layout;
pub mod ledger;
pub mod link;
pub mod manifest;
pub mod outbox;
pub mod platform;
pub mod policy;
pub mod reconnect;
pub mod release;
pub mod run;
pub mod sentence;
pub mod session;
pub mod stamp;
pub mod storage;
pub mod telemetry;
