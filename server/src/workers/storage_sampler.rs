//! Measures from time to time what is stored. Any server may take the next measurement.

use std::time::Duration;

use muster_protocol::error_chain;

use crate::services::operations::storage::Storage;

/// Longest pause between two looks at when the next measurement is due.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs until it is dropped, which loses nothing: the measurement is taken again.
pub async fn run(storage: Storage) {
    loop {
        if let Err(error) = storage.measure_due().await {
            let error = error_chain(&error);
            tracing::warn!(error, "failed to measure what is stored; retrying");
        }
        tokio::time::sleep(storage.measure_every().min(LONGEST_PAUSE)).await;
    }
}
