//! Looks after output that is over. One task: compaction, dropping and sweeping take turns, and
//! nothing is looked at while no command ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::hub::Hub;
use crate::services::commands::output::compaction::{OutputCompaction, Stored, Stuck};
use crate::services::error::chain;
use crate::store::StoreError;

/// Between two looks for output to compact: what ends meanwhile is found by one.
const COMPACT_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at how much there is.
const QUOTA_EVERY: Duration = Duration::from_secs(10);
/// Between two sweeps; the first is at the start. Each is followed by a look: a commit without an
/// answer may have stood.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// Runs until it is dropped, which loses nothing.
pub async fn run(keeping: OutputCompaction, hub: Arc<Hub>) {
    let (mut stuck, mut stored) = (Stuck::default(), Stored::default());
    let (mut sweep_at, mut quota_at) = (Instant::now(), Instant::now());
    loop {
        if Instant::now() >= sweep_at {
            told("sweep leftovers of output", keeping.sweep_leftovers().await);
            sweep_at = Instant::now() + SWEEP_EVERY;
        }
        tracing::debug!("looking for output that is over");
        let compacted = keeping.compact(&mut stuck, &mut stored).await;
        let mut look_at = match told("compact output", compacted) {
            Some(None) => sweep_at,
            Some(Some(due_in_ms)) => {
                sweep_at.min(Instant::now() + Duration::from_millis(due_in_ms))
            }
            None => Instant::now(),
        };
        if Instant::now() >= quota_at {
            told("drop output for room", keeping.drop_over_quota(&mut stored).await);
            quota_at = Instant::now() + QUOTA_EVERY;
        }
        if !keeping.is_within_quota(&stored) {
            look_at = look_at.min(quota_at);
        }
        tokio::time::sleep(COMPACT_EVERY).await;
        tokio::select! {
            () = hub.until_output_over() => {}
            () = tokio::time::sleep_until(look_at) => {}
        }
    }
}

/// What came of it; `None` if it failed, and the next turn tries again.
fn told<T>(what: &'static str, result: Result<T, StoreError>) -> Option<T> {
    result
        .inspect_err(|error| {
            tracing::warn!(what, error = chain(error), "failed; the next turn tries again");
        })
        .ok()
}
