//! Looks after output that is over. One task: compaction, dropping and sweeping take turns.

use std::time::Duration;

use tokio::time::Instant;

use crate::services::error::chain;
use crate::services::output_keeping::{OutputKeeping, Stored, Stuck};
use crate::store::StoreError;

/// Between two looks for output to compact.
const COMPACT_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at how much there is.
const QUOTA_EVERY: Duration = Duration::from_secs(10);
/// Between two sweeps; the first is at the start.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// Runs until it is dropped, which loses nothing.
pub async fn run(keeping: OutputKeeping) {
    let (mut stuck, mut stored) = (Stuck::default(), Stored::default());
    let (mut sweep_at, mut quota_at) = (Instant::now(), Instant::now());
    loop {
        if Instant::now() >= sweep_at {
            told("sweep leftovers of output", keeping.sweep_leftovers().await);
            sweep_at = Instant::now() + SWEEP_EVERY;
        }
        told("compact output", keeping.compact(&mut stuck, &mut stored).await);
        if Instant::now() >= quota_at {
            told("drop output for room", keeping.drop_over_quota(&mut stored).await);
            quota_at = Instant::now() + QUOTA_EVERY;
        }
        tokio::time::sleep(COMPACT_EVERY).await;
    }
}

fn told(what: &'static str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(what, error = chain(&error), "failed; the next turn tries again");
    }
}
