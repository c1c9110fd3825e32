//! Deletes old history that people have asked to delete. Any server does so.

use std::time::Duration;

use muster_protocol::error_chain;

use crate::services::operations::storage::Storage;

/// Longest sleep: other servers take requests, and may be killed while they delete.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Runs until it is dropped, which loses nothing: each round reads what is left.
pub async fn run(storage: Storage) {
    loop {
        if let Err(error) = storage.purge_due().await {
            let error = error_chain(&error);
            tracing::warn!(error, "failed to delete old history; retrying");
        }
        tokio::select! {
            () = storage.purge_requested() => {}
            () = tokio::time::sleep(LONGEST_SLEEP) => {}
        }
    }
}
