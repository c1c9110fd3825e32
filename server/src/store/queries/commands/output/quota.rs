//! The quota of compacted output: above it, the oldest output is dropped first.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::source::blocking;
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::blobs::BlobName;
use crate::store::entities::commands::output_blob;
use crate::store::queries::SystemScope;
use output_blob::Column::{DroppedAt, FinishedAt, StoredBytes};

/// Blobs of a slice.
const SLICE_ROWS: u64 = 64;

impl SystemScope {
    /// Total size of the compacted files.
    pub async fn output_stored_bytes(&self) -> Result<u64, StoreError> {
        // Cast, because PostgreSQL's SUM of 64-bit numbers is a number of another type.
        let sum = Expr::col(StoredBytes).sum().cast_as("bigint");
        let sum: Option<Option<i64>> = output_blob::Entity::find()
            .select_only()
            .column_as(sum, "sum")
            .filter(DroppedAt.is_null())
            .into_tuple()
            .one(&self.reader)
            .await?;
        Ok(sum.flatten().unwrap_or(0).cast_unsigned())
    }

    /// Drops the oldest outputs until `wanted_bytes` are free, at most one slice. Returns how many
    /// bytes that freed. The rows remain as long as their commands, to show that there was output.
    ///
    /// # Errors
    /// [`StoreError`]; a sweep removes files that could not be removed.
    pub async fn drop_oldest_output(
        &self,
        wanted_bytes: u64,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let oldest: Vec<(CommandId, i64, i64)> = output_blob::Entity::find()
            .select_only()
            .column(output_blob::Column::CommandId)
            .column(output_blob::Column::Revision)
            .column(StoredBytes)
            .filter(DroppedAt.is_null())
            .order_by_asc(FinishedAt)
            .limit(SLICE_ROWS)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let mut freed_bytes = 0;
        let dropped: Vec<_> = oldest
            .into_iter()
            .take_while(|(.., bytes)| {
                let is_needed = freed_bytes < wanted_bytes;
                freed_bytes += if is_needed { bytes.cast_unsigned() } else { 0 };
                is_needed
            })
            .collect();
        let ids: Vec<CommandId> = dropped.iter().map(|(id, ..)| *id).collect();
        self.writer
            .change(move |transaction| {
                let ids = ids.clone();
                Box::pin(async move {
                    output_blob::Entity::update_many()
                        .col_expr(DroppedAt, now.0.into())
                        .filter(output_blob::Column::CommandId.is_in(ids))
                        .exec(transaction)
                        .await?;
                    Ok(())
                })
            })
            .await?;
        let names = dropped.into_iter().map(|(id, revision, _)| BlobName::Compacted(id, revision));
        self.delete_files(names.collect()).await?;
        Ok(freed_bytes)
    }

    /// Removes files that no row references any more.
    pub(in crate::store::queries) async fn delete_files(
        &self,
        names: Vec<BlobName>,
    ) -> Result<(), StoreError> {
        blocking(&self.blobs, move |blobs| {
            names.into_iter().try_for_each(|name| blobs.delete(name))
        })
        .await
    }
}
