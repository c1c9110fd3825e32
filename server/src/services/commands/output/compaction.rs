//! Compacts the output of ended commands, drops the oldest above the limit, and removes orphaned
//! files.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::ids::CommandId;
use crate::domain::time::{Clock, Timestamp};
use crate::services::Settings;
use crate::store::queries::{Compacted, SystemScope};
use crate::store::{Store, StoreError};
use muster_protocol::error_chain;

/// Commands of one search for compactable output, including running ones.
const ROUND: u64 = 256;
/// Commands that cannot be compacted, remembered so that each is logged once.
const MAX_STUCK: usize = 10_000;
/// Orphaned files are kept this long, because a transaction in progress may reference them.
const UNTOUCHED: Duration = Duration::from_secs(600);

/// Use cases of the output of ended commands. Each run is bounded; the next run continues.
#[derive(Clone, Debug)]
pub struct OutputCompaction {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
}

/// Bytes of compacted output, cached so that the sum is only read near the limit. Output that was
/// deleted with its history is not subtracted, so there may be less.
#[derive(Debug, Default)]
pub struct Stored {
    at_most_bytes: Option<u64>,
}

impl Stored {
    fn add(&mut self, bytes: u64) {
        self.at_most_bytes = self.at_most_bytes.map(|known| known.saturating_add(bytes));
    }

    fn fits(&self, quota_bytes: u64) -> bool {
        self.at_most_bytes.is_some_and(|bytes| bytes <= quota_bytes)
    }
}

/// Commands whose output cannot be compacted. Their output stays readable.
#[derive(Debug, Default)]
pub struct Stuck(BTreeSet<CommandId>);

impl OutputCompaction {
    /// Compacts all complete output. Returns after how many milliseconds more output becomes
    /// complete by time alone, if any.
    ///
    /// # Errors
    /// [`StoreError`] if the database or the output directory is not available; the next run
    /// continues.
    pub async fn compact(
        &self,
        stuck: &mut Stuck,
        stored: &mut Stored,
    ) -> Result<Option<u64>, StoreError> {
        let system = self.store.system();
        let (mut behind, mut due_at) = (None, None);
        loop {
            let round = system.to_compact(behind, self.clock.now(), ROUND).await?;
            due_at = [due_at, round.due_at].into_iter().flatten().min();
            for id in round.ids {
                if stuck.0.contains(&id) {
                    continue;
                }
                match system.compact(id).await {
                    Ok(compacted) => {
                        tracing::debug!(command_id = %id, ?compacted, "output");
                        if let Compacted::Blob { stored_bytes } = compacted {
                            stored.add(stored_bytes);
                        }
                    }
                    Err(StoreError::Blob(error)) if error.is_loss() => {
                        tracing::error!(command_id = %id, error = error_chain(&error), "output can't be compacted");
                        if stuck.0.len() < MAX_STUCK {
                            stuck.0.insert(id);
                        }
                    }
                    // The command was deleted meanwhile.
                    Err(StoreError::Refused(_) | StoreError::OutputDropped) => {}
                    Err(error) => {
                        // A blob may exist that this run does not know.
                        *stored = Stored::default();
                        return Err(error);
                    }
                }
            }
            match round.walked_to {
                Some(last) => behind = Some(last),
                None => return Ok(due_at.map(|at: Timestamp| at.ms_since(self.clock.now()))),
            }
        }
    }

    /// True while the known output is within the limit.
    pub fn is_within_quota(&self, stored: &Stored) -> bool {
        stored.fits(self.settings.output_quota_bytes)
    }

    /// Drops the oldest output until the total is within the limit.
    ///
    /// # Errors
    /// [`StoreError`]; the next run tries again.
    pub async fn drop_over_quota(&self, stored: &mut Stored) -> Result<(), StoreError> {
        let system = self.store.system();
        let quota_bytes = self.settings.output_quota_bytes;
        if self.is_within_quota(stored) {
            return Ok(());
        }
        *stored = Stored::default();
        let mut stored_bytes = system.output_stored_bytes().await?;
        let mut over_bytes = stored_bytes.saturating_sub(quota_bytes);
        while over_bytes > 0 {
            let freed_bytes = system.drop_oldest_output(over_bytes, self.clock.now()).await?;
            tracing::info!(freed_bytes, quota_bytes, "the oldest output was dropped for room");
            if freed_bytes == 0 {
                break;
            }
            over_bytes = over_bytes.saturating_sub(freed_bytes);
            stored_bytes = stored_bytes.saturating_sub(freed_bytes);
        }
        stored.at_most_bytes = Some(stored_bytes);
        Ok(())
    }

    /// Removes files that no row references. A crash may leave them.
    ///
    /// # Errors
    /// [`StoreError`]; the next run tries again.
    pub async fn sweep_leftovers(&self) -> Result<(), StoreError> {
        let system = self.store.system();
        let mut removed = 0;
        for slice in 0..SystemScope::output_slices() {
            removed += system.sweep_output_files(slice, UNTOUCHED).await?;
        }
        if removed > 0 {
            tracing::info!(removed, "leftover files of output were removed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_added_up_at_the_start_and_once_it_may_be_too_much() {
        let mut stored = Stored::default();
        assert!(!stored.fits(100), "nothing is known at the start");
        stored.add(1);
        assert!(!stored.fits(100), "nor by what comes then");
        stored.at_most_bytes = Some(90);
        stored.add(10);
        assert!(stored.fits(100));
        stored.add(1);
        assert!(!stored.fits(100));
    }
}
