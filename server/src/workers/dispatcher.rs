//! Delivers what is queued to agents that were woken.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::Hub;
use crate::services::commands::dispatch::Dispatch;
use crate::services::error::chain;

/// Agents of one round.
const ROUND: usize = 500;
/// Between two tries when the database does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is dropped. An error keeps its agents awake: nothing queued is forgotten.
pub async fn run(dispatch: Dispatch, hub: Arc<Hub>) {
    loop {
        let agents = hub.woken(ROUND).await;
        if let Err(error) = dispatch.deliver(&agents).await {
            let error = chain(&error);
            tracing::warn!(error, "failed to deliver; trying again");
            agents.iter().for_each(|id| hub.wake(*id));
            tokio::time::sleep(RETRY).await;
        }
    }
}
