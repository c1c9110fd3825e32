//! Appends events to the event log while there are viewers, and for a while after.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use crate::hub::Hub;
use crate::services::integrations::events::EventPublisher;
use muster_protocol::error_chain;

/// Shortest interval between two events of a running job.
const JOB_INTERVAL: Duration = Duration::from_millis(500);
/// How long recording continues without viewers, for those who reconnect.
const LINGER: Duration = Duration::from_secs(300);

/// Runs until it is dropped. Without viewers it only waits.
pub async fn run(new_publisher: impl Fn() -> EventPublisher, hub: Arc<Hub>) {
    let mut readers = hub.event_log.readers();
    // Cannot fail: the sender is in the hub.
    while readers.wait_for(|readers| *readers > 0).await.is_ok() {
        publish(new_publisher(), &hub).await;
        hub.event_log.stop_recording();
    }
}

/// Publishes until there were no viewers for a while.
async fn publish(mut publisher: EventPublisher, hub: &Hub) {
    let mut changes = hub.event_feed.subscribe();
    hub.event_log.start_recording();
    let mut readers = hub.event_log.readers();
    let mut jobs_at = Instant::now();
    let mut left_at = None;
    loop {
        left_at = match *readers.borrow_and_update() {
            0 => left_at.or_else(|| Some(Instant::now())),
            _ => None,
        };
        let end_at = left_at.map(|left_at| left_at + LINGER);
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => publisher.record(&change),
                Err(RecvError::Lagged(_)) => publisher.missed(),
                Err(RecvError::Closed) => return,
            },
            () = sleep_until(jobs_at), if publisher.has_jobs() => {
                if let Err(error) = publisher.publish_jobs().await {
                    let error = error_chain(&error);
                    tracing::warn!(error, "failed to publish events of jobs; retrying");
                }
                jobs_at = Instant::now() + JOB_INTERVAL;
            }
            _ = readers.changed() => {}
            () = sleep_until(end_at.unwrap_or(jobs_at)), if end_at.is_some() => return,
        }
    }
}
