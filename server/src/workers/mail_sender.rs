//! Sends mails when they are due, and sleeps in between.

use std::time::Duration;

use muster_protocol::error_chain;

use crate::services::access::mails::Mails;

/// Longest sleep: clocks are set, machines are suspended, and other servers store mails.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Pause after a database error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped. A mail that is under way then is sent again by the next server.
pub async fn run(mails: Mails) {
    loop {
        let due_in = match mails.send_due().await {
            Ok(due_in_ms) => due_in_ms.map_or(LONGEST_SLEEP, Duration::from_millis),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to read or record mails; retrying");
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        tokio::select! {
            () = mails.queued() => {}
            () = tokio::time::sleep(due_in.min(LONGEST_SLEEP)) => {}
        }
    }
}
