//! Adapters to the outside world: files, other servers, webhooks. Each has the interface that
//! services need.

pub mod backup_file;
pub mod control_socket;
pub mod data_directory;
pub mod database_password;
mod file_sums;
pub mod host_names;
pub mod local_agent;
pub mod master_key_file;
pub mod memory;
pub mod oidc;
pub mod package_files;
pub mod passkey_verifier;
pub mod program_files;
pub mod readiness;
pub mod release_files;
pub mod smtp;
pub mod uploaded_files;
pub mod webhook_client;

use nix::sys::stat::{Mode, umask};

/// Makes every file that this process creates from now on readable by its user alone, because each
/// holds keys, output or what others sent.
pub fn close_new_files_to_others() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}
