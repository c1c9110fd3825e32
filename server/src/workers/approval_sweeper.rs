//! Ends requests for approval when their time is over, or when their work has ended.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::error_chain;
use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

use crate::hub::{CommandChanges, Hub};
use crate::services::commands::approvals::Approvals;

/// Longest sleep: clocks are set, machines are suspended, and other servers take requests.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Pause between two rounds while commands end, so that one finds all of them.
const PAUSE: Duration = Duration::from_secs(1);
/// Shortest sleep, so that a round that ends nothing is not repeated at once.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);
/// Pause after a database error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped. The next round does what a dropped one left.
pub async fn run(approvals: Approvals, hub: Arc<Hub>) {
    // Only while requests wait: events cost something for each command.
    let mut changes: Option<Receiver<Arc<CommandChanges>>> = None;
    loop {
        let requested = hub.wait_approval_requested();
        let due_in_ms = match approvals.sweep().await {
            Ok(due_in_ms) => due_in_ms,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to end requests for approval; retrying");
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        match (due_in_ms, &changes) {
            // Once more after subscribing: their work may have ended before.
            (Some(_), None) => {
                changes = Some(hub.event_feed.subscribe());
                continue;
            }
            (None, Some(_)) => changes = None,
            _ => {}
        }
        let due_in = due_in_ms.map_or(LONGEST_SLEEP, Duration::from_millis);
        let wake_at = Instant::now() + due_in.clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        tokio::select! {
            () = requested => {}
            () = tokio::time::sleep_until(wake_at) => {}
            () = any_change(&mut changes) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Waits for a change of commands or jobs; forever without a subscription.
async fn any_change(changes: &mut Option<Receiver<Arc<CommandChanges>>>) {
    match changes {
        // Lagging means that there were changes. The sender lives as long as the hub.
        Some(changes) => drop(changes.recv().await),
        None => std::future::pending().await,
    }
}
