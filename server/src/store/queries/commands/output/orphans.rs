//! Removes files of output that no row references, such as those that a crash left.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use super::source::blocking;
use crate::domain::ids::CommandId;
use crate::store::StoreError;
use crate::store::blobs::{BlobName, Blobs};
use crate::store::entities::commands::{output_blob, output_chunk};
use crate::store::queries::SystemScope;

/// Names in one query.
const LIST: usize = 256;

impl SystemScope {
    /// Removes the files in a slice of the folders that no row references and that were not
    /// modified for `untouched`. Returns their number. Must not run during a compaction.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn sweep_output_files(
        &self,
        slice: u16,
        untouched: Duration,
    ) -> Result<usize, StoreError> {
        let names = blocking(&self.blobs, move |blobs| blobs.old_files(slice, untouched)).await?;
        let mut removed = 0;
        for names in names.chunks(LIST) {
            let named = self.named(names).await?;
            for name in names.iter().filter(|name| !named.contains(name)) {
                removed += 1;
                match *name {
                    BlobName::Live(id) => self.delete_unnamed_live(id).await?,
                    blob => self.delete_files(vec![blob]).await?,
                }
            }
        }
        Ok(removed)
    }

    /// How many slices [`SystemScope::sweep_output_files`] has.
    pub const fn output_slices() -> u16 {
        Blobs::SLICES
    }

    async fn named(&self, names: &[BlobName]) -> Result<HashSet<BlobName>, StoreError> {
        let ids: Vec<CommandId> = names.iter().map(|name| name.command_id()).collect();
        let live: Vec<CommandId> = output_chunk::Entity::find()
            .select_only()
            .column(output_chunk::Column::CommandId)
            .distinct()
            .filter(output_chunk::Column::CommandId.is_in(ids.clone()))
            .filter(output_chunk::Column::FileBytes.gt(0))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let compacted: Vec<(CommandId, i64)> = output_blob::Entity::find()
            .select_only()
            .column(output_blob::Column::CommandId)
            .column(output_blob::Column::Revision)
            .filter(output_blob::Column::CommandId.is_in(ids))
            .filter(output_blob::Column::DroppedAt.is_null())
            .into_tuple()
            .all(&self.reader)
            .await?;
        let compacted =
            compacted.into_iter().map(|(id, revision)| BlobName::Compacted(id, revision));
        Ok(live.into_iter().map(BlobName::Live).chain(compacted).collect())
    }
}
