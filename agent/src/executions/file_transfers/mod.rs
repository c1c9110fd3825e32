//! Transfers of files: what the process does that a shim starts for one. It runs as the user that scripts run
//! as, and knows neither the ledger nor the server.
//!
//! A push reads the content from standard input, into a file of the target's folder that has no name. Only
//! when its hash is right and it is on the disk does it get the name. A pull writes the file to standard
//! output.

mod folder;
mod pull;
mod push;

use std::io;
use std::path::PathBuf;

use muster_protocol::commands::file_transfer::FileOperation;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::executions::ledger::record::FileLaunch;

/// Bytes that are copied at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// What the process gets as its only argument, JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileWork {
    pub command_id: Uuid,
    /// No transfer reaches anything in it.
    pub state_dir: PathBuf,
    pub file: FileLaunch,
}

/// Why a transfer failed. The messages are the standard error of the execution.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("`{0}` is a symbolic link, or no folder; transfers follow no links")]
    Link(String),
    #[error("the folder `{0}` does not exist; create it on the host")]
    NoFolder(String),
    #[error("the path leads into the agent's own state directory")]
    StateDirectory,
    #[error("the file `{0}` does not exist")]
    Missing(String),
    #[error("`{0}` is not a plain file")]
    NotPlain(String),
    #[error("`{0}` has more than one name (hard links), so it may be a file from elsewhere")]
    Linked(String),
    #[error("the file has {bytes} bytes, and at most {most_bytes} are allowed")]
    TooLarge { bytes: u64, most_bytes: u64 },
    #[error("the content has another size or SHA-256 than the command names; nothing was written")]
    Hash,
    #[error("the file became shorter while it was read")]
    Shortened,
    #[error("the host has no user `{0}`")]
    UnknownOwner(String),
    #[error("failed to {action}: {source}")]
    System {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

impl TransferError {
    fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

/// Does the transfer, and returns a sentence about it for standard output or standard error.
///
/// # Errors
/// [`TransferError`]; a push has then changed nothing.
pub fn run(
    work: &FileWork,
    input: &mut impl io::Read,
    output: &mut impl io::Write,
) -> Result<String, TransferError> {
    match work.file.operation {
        FileOperation::Push => push::push(work, input),
        FileOperation::Pull => pull::pull(work, output),
    }
}

#[cfg(test)]
mod tests;
