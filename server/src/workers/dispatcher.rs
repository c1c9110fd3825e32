//! Delivers queued commands to agents with a wake-up.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::Hub;
use crate::services::commands::dispatch::Dispatcher;
use muster_protocol::error_chain;

/// Most agents of one call.
const AGENTS_PER_CALL: usize = 500;
/// Pause after a database error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped. After an error it wakes the agents again.
pub async fn run(dispatcher: Dispatcher, hub: Arc<Hub>) {
    loop {
        let agents = hub.next_woken(AGENTS_PER_CALL).await;
        if let Err(error) = dispatcher.deliver(&agents).await {
            let error = error_chain(&error);
            tracing::warn!(error, "failed to deliver commands; retrying");
            agents.iter().for_each(|id| hub.wake(*id));
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
