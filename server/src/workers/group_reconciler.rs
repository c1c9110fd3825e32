//! Carries out the wishes of groups.

use tokio::time::Instant;

use crate::services::error::chain;
use crate::services::releases::groups::{Groups, Turn};

/// Runs until it is dropped, which loses nothing.
pub async fn run(groups: Groups) {
    loop {
        let began_at = Instant::now();
        let turn = match groups.reconcile_all().await {
            Ok(turn) => turn,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "failed to look after groups; the next turn tries again");
                Turn::Busy
            }
        };
        groups.wait(turn, began_at.elapsed()).await;
    }
}
