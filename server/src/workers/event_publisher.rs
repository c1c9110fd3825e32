//! Publishes events while any client is subscribed, and for a while after.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use crate::hub::Hub;
use crate::services::error::chain;
use crate::services::integrations::events::EventPublisher;

/// Between two tellings of jobs: each is published at most so often while it runs.
const BETWEEN_JOBS: Duration = Duration::from_millis(500);
/// How long what happens is published to nobody, for those who come back.
const AFTER_LAST: Duration = Duration::from_secs(300);

/// Runs until it is dropped. Idle while no client is subscribed.
pub async fn run(new_publisher: impl Fn() -> EventPublisher, hub: Arc<Hub>) {
    let mut readers = hub.timeline.readers();
    // The sender is in the hub.
    while readers.wait_for(|readers| *readers > 0).await.is_ok() {
        publish(new_publisher(), &hub).await;
        hub.timeline.end();
    }
}

/// Publishes events until no client has been subscribed for a while.
async fn publish(mut publisher: EventPublisher, hub: &Hub) {
    let mut changes = hub.events.subscribe();
    hub.timeline.begin();
    let mut readers = hub.timeline.readers();
    let mut jobs_at = Instant::now();
    let mut left_at = None;
    loop {
        left_at = match *readers.borrow_and_update() {
            0 => left_at.or_else(|| Some(Instant::now())),
            _ => None,
        };
        let end_at = left_at.map(|left_at| left_at + AFTER_LAST);
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => publisher.record(&change),
                Err(RecvError::Lagged(_)) => publisher.missed(),
                Err(RecvError::Closed) => return,
            },
            () = sleep_until(jobs_at), if publisher.has_jobs() => {
                if let Err(error) = publisher.publish_jobs().await {
                    let error = chain(&error);
                    tracing::warn!(error, "failed to publish jobs; retrying");
                }
                jobs_at = Instant::now() + BETWEEN_JOBS;
            }
            _ = readers.changed() => {}
            () = sleep_until(end_at.unwrap_or(jobs_at)), if end_at.is_some() => return,
        }
    }
}
