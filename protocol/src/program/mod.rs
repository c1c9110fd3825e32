//! What the programs have in common beside the protocol: exit codes, versions, waiting times, logs.

pub mod backoff;
pub mod error_chain;
pub mod exit_code;
pub mod log_format;
pub mod proxy_environment;
pub mod request_id;
pub mod version;
