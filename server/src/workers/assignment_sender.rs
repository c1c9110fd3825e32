//! Sends agents the packages that are assigned to them.

use std::time::Duration;

use muster_protocol::error_chain;

use crate::services::library::assignments::Assignments;

/// Pause after a database error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped. The next session of an agent gets what a dropped round left.
pub async fn run(assignments: Assignments) {
    loop {
        let recipients = assignments.next_recipients().await;
        while let Err(error) = assignments.send(&recipients).await {
            let error = error_chain(&error);
            tracing::warn!(error, "failed to send assignments; retrying");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
