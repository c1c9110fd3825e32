//! Update requests of the host's owner: a file that the agent reads when it is notified.
//!
//! An accepted request becomes an update request without a command. The reason of a refusal is
//! written to another file.

use std::fs;

use muster_protocol::ExitCode;
use muster_protocol::release::Version;
use serde::{Deserialize, Serialize};

use super::update_requests::{UpdateRequests, exit_code, read};
use crate::storage;
use muster_protocol::error_chain;

/// A request of the host's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerUpdateRequest {
    pub version: Version,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRefusal {
    /// The stable code.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl UpdateRequests {
    /// Accepts the owner's request if there is one, and returns the exit code of the process.
    /// `None` also if the request is refused.
    pub fn accept_owner_request(&mut self) -> Option<ExitCode> {
        let path = self.state.owner_update_request();
        let OwnerUpdateRequest { version } = read(&path)?;
        // The requester removes the file when it gives up: only one of the two succeeds.
        fs::remove_file(&path).ok()?;
        let refusal = match self.check_available() {
            Err((code, message)) => {
                UpdateRefusal { code: code.to_owned(), message: message.to_owned() }
            }
            Ok(()) => match self.submit(None, version.clone(), false) {
                Ok(()) => return Some(exit_code(&version)),
                Err(error) => {
                    let code = if error.is_no_space() { "no_space" } else { "storage_failed" };
                    UpdateRefusal { code: code.to_owned(), message: error_chain(&error) }
                }
            },
        };
        tracing::warn!(%version, code = refusal.code, "refused an update request of the host's owner");
        let encoded = serde_json::to_vec(&refusal).unwrap_or_default();
        if let Err(error) = storage::replace_synced(&self.state.owner_update_refusal(), &encoded) {
            // The requester gives up after its timeout.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "failed to write the refusal"
            );
        }
        None
    }
}
