//! Adapters to the outside world: files, other servers, webhooks. Each has the interface that
//! services need.

pub mod database_password;
mod file_sums;
pub mod master_key_file;
pub mod new_files;
pub mod program_files;
pub mod readiness;
pub mod release_files;
pub mod webhook_client;
