//! What the host's owner asks for from beside the agent: a file that is taken up when the notifier rings.
//!
//! From there on it is a wish of the host's own. What is refused is said in another file.

use std::fs;

use muster_protocol::ExitCode;
use muster_protocol::release::Version;
use serde::{Deserialize, Serialize};

use super::update_requests::{UpdateRequests, exit_code, read};
use crate::error_chain;
use crate::storage;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerUpdateRequest {
    pub version: Version,
}

/// Why it is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRefusal {
    /// A stable name.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl UpdateRequests {
    /// Takes up what is asked for, if anything is: gives the code that the process is to end with.
    /// `None` also if it is refused.
    pub fn accept_owner_request(&mut self) -> Option<ExitCode> {
        let path = self.state.owner_update_request();
        let OwnerUpdateRequest { version } = read(&path)?;
        // Whoever asks removes it when giving up: of the two, one succeeds.
        fs::remove_file(&path).ok()?;
        let refusal = match self.check_available() {
            Err((code, message)) => {
                UpdateRefusal { code: code.to_owned(), message: message.to_owned() }
            }
            Ok(()) => match self.submit(None, version.clone()) {
                Ok(()) => return Some(exit_code(&version)),
                Err(error) => {
                    let code = if error.is_no_space() { "no_space" } else { "storage_failed" };
                    UpdateRefusal { code: code.to_owned(), message: error_chain::format(&error) }
                }
            },
        };
        tracing::warn!(%version, code = refusal.code, "refused to the host's owner");
        let encoded = serde_json::to_vec(&refusal).unwrap_or_default();
        if let Err(error) = storage::replace_synced(&self.state.owner_update_refusal(), &encoded) {
            // Who asks gives up after a while.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the refusal was not written"
            );
        }
        None
    }
}
