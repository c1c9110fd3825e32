//! Sends agents the packages that are assigned to them, and brings them new versions in waves.

use std::time::Duration;

use muster_protocol::error_chain;

use tokio::time::Instant;

use crate::services::library::assignments::{Assignments, RolloutActivity};

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

/// Starts the waves of rollouts, in rounds. Dropping it loses nothing: each round decides from what is stored.
pub async fn run_rollouts(assignments: Assignments) {
    loop {
        let started_at = Instant::now();
        let activity = match assignments.reconcile_rollouts().await {
            Ok(activity) => activity,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to reconcile rollouts of assignments; retrying");
                RolloutActivity::Idle
            }
        };
        assignments.next_rollout_round(activity, started_at.elapsed()).await;
    }
}
