//! Compacts output of ended commands, enforces the quota and sweeps leftovers, in one task. While no
//! command ends it does not query the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::hub::Hub;
use crate::services::commands::output::compaction::{OutputCompaction, Stored, Stuck};
use crate::store::StoreError;
use muster_protocol::error_chain;

/// Pause between two compactions, so that one finds all commands that ended meanwhile.
const COMPACT_EVERY: Duration = Duration::from_secs(2);
/// Pause between two checks of the quota.
const QUOTA_EVERY: Duration = Duration::from_secs(10);
/// Pause between two sweeps; the first is at the start. Each is followed by a compaction, because a
/// commit without an answer may have ended commands.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// Runs until it is dropped, which loses no output.
pub async fn run(compaction: OutputCompaction, hub: Arc<Hub>) {
    let (mut stuck, mut stored) = (Stuck::default(), Stored::default());
    let (mut sweep_at, mut quota_at) = (Instant::now(), Instant::now());
    loop {
        if Instant::now() >= sweep_at {
            logged("failed to sweep leftovers of output", compaction.sweep_leftovers().await);
            sweep_at = Instant::now() + SWEEP_EVERY;
        }
        tracing::debug!("looking for output to compact");
        let compacted = compaction.compact(&mut stuck, &mut stored).await;
        let mut next_at = match logged("failed to compact output", compacted) {
            Some(None) => sweep_at,
            Some(Some(due_in_ms)) => {
                sweep_at.min(Instant::now() + Duration::from_millis(due_in_ms))
            }
            None => Instant::now(),
        };
        if Instant::now() >= quota_at {
            logged(
                "failed to drop output over the quota",
                compaction.drop_over_quota(&mut stored).await,
            );
            quota_at = Instant::now() + QUOTA_EVERY;
        }
        if !compaction.is_within_quota(&stored) {
            next_at = next_at.min(quota_at);
        }
        tokio::time::sleep(COMPACT_EVERY).await;
        tokio::select! {
            () = hub.wait_output_finished() => {}
            () = tokio::time::sleep_until(next_at) => {}
        }
    }
}

/// The result; `None` after an error, which is logged. The next round tries again.
fn logged<T>(what: &'static str, result: Result<T, StoreError>) -> Option<T> {
    result
        .inspect_err(|error| {
            tracing::warn!(error = error_chain(error), "{what}; retrying");
        })
        .ok()
}
