//! Reconciles groups in rounds.

use tokio::time::Instant;

use crate::services::releases::groups::{Groups, ReconcileOutcome};
use muster_protocol::error_chain;

/// Runs until it is dropped. Dropping it loses nothing: each round decides from what is stored.
pub async fn run(groups: Groups) {
    loop {
        let started_at = Instant::now();
        let outcome = match groups.reconcile_all().await {
            Ok(outcome) => outcome,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to reconcile groups; retrying");
                ReconcileOutcome::Busy
            }
        };
        groups.wait(outcome, started_at.elapsed()).await;
    }
}
