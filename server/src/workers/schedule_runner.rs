//! Sleeps until the next schedule is due, and lets the service start what is due.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::error_chain;
use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

use crate::hub::{CommandChanges, Hub};
use crate::services::schedules::Schedules;

/// Longest sleep: clocks are set, machines are suspended, and other servers change schedules.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Pause between two rounds while jobs end, so that one finds all of them.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause after a database error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped. The next round does what a dropped one left.
pub async fn run(schedules: Schedules, hub: Arc<Hub>) {
    // Only while fires wait for jobs: events cost something for each command.
    let mut changes: Option<Receiver<Arc<CommandChanges>>> = None;
    let mut may_have_ended = true;
    loop {
        let changed = schedules.changed();
        let work = match schedules.fire_due(may_have_ended).await {
            Ok(work) => work,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to start due schedules; retrying");
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        match (work.has_waiting, &changes) {
            // Once more after subscribing: a job may have ended before.
            (true, None) => {
                changes = Some(hub.event_feed.subscribe());
                may_have_ended = true;
                continue;
            }
            (false, Some(_)) => changes = None,
            _ => {}
        }
        let due_in = work.due_in_ms.map_or(LONGEST_SLEEP, Duration::from_millis);
        let wake_at = Instant::now() + due_in.min(LONGEST_SLEEP);
        may_have_ended = tokio::select! {
            () = changed => false,
            () = tokio::time::sleep_until(wake_at) => false,
            () = any_change(&mut changes) => {
                tokio::time::sleep(PAUSE).await;
                true
            }
        };
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
