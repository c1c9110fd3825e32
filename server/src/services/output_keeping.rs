//! Output that is over: compacted, dropped for room, rid of leftovers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Settings;
use super::error::chain;
use crate::domain::ids::CommandId;
use crate::domain::time::Clock;
use crate::store::queries::SystemScope;
use crate::store::{Store, StoreError};

/// Commands of one look for what is to be compacted.
const ROUND: u64 = 64;
/// Commands that can't be compacted, remembered so that each is told of once.
const MAX_STUCK: usize = 10_000;
/// Leftovers are let be for so long: a transaction may still be going to name them.
const UNTOUCHED: Duration = Duration::from_secs(600);

/// Use cases of output that is over. Each is bounded; what it leaves, the next one takes.
#[derive(Clone, Debug)]
pub struct OutputKeeping {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
}

/// Commands whose output can't be compacted. What can be read of it can be read as before.
#[derive(Debug, Default)]
pub struct Stuck(BTreeSet<CommandId>);

impl OutputKeeping {
    /// Compacts all output that has come to its end.
    ///
    /// # Errors
    /// [`StoreError`] if the database, or the room for output, is not there; the next turn goes on.
    pub async fn compact(&self, stuck: &mut Stuck) -> Result<(), StoreError> {
        let system = self.store.system();
        let mut behind = None;
        loop {
            let ids = system.to_compact(behind, self.clock.now(), ROUND).await?;
            let Some(last) = ids.last() else { return Ok(()) };
            behind = Some(*last);
            for id in ids.into_iter().filter(|id| !stuck.0.contains(id)).collect::<Vec<_>>() {
                match system.compact(id).await {
                    Ok(compacted) => tracing::debug!(command_id = %id, ?compacted, "output"),
                    Err(StoreError::Blob(error)) if error.is_loss() => {
                        tracing::error!(command_id = %id, error = chain(&error), "output can't be compacted");
                        if stuck.0.len() < MAX_STUCK {
                            stuck.0.insert(id);
                        }
                    }
                    // Its history was dropped meanwhile.
                    Err(StoreError::Refused(_) | StoreError::OutputDropped) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Drops the oldest output while there is more than is kept.
    ///
    /// # Errors
    /// [`StoreError`]; the next turn tries again.
    pub async fn drop_over_quota(&self) -> Result<(), StoreError> {
        let system = self.store.system();
        let quota_bytes = self.settings.output_quota_bytes;
        let mut over_bytes = system.output_stored_bytes().await?.saturating_sub(quota_bytes);
        while over_bytes > 0 {
            let freed_bytes = system.drop_oldest_output(over_bytes, self.clock.now()).await?;
            tracing::info!(freed_bytes, quota_bytes, "the oldest output was dropped for room");
            if freed_bytes == 0 {
                break;
            }
            over_bytes = over_bytes.saturating_sub(freed_bytes);
        }
        Ok(())
    }

    /// Removes files that no row names: what a crash left on the way.
    ///
    /// # Errors
    /// [`StoreError`]; the next turn tries again.
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
