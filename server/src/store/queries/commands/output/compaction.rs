//! Compacts the output of an ended command: from chunks to one blob.
//!
//! A crash at any point loses nothing: the blob is durable before its row, the row is committed
//! before chunks are deleted, and chunks are deleted before their file. The next compaction or a
//! sweep handles what a crash left.

use std::time::{Duration, Instant};

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::source::{OutputPosition, OutputSource, blocking};
use crate::domain::commands::received::{self, Mark};
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::blobs::{BlobName, BlockWriter, NewBlob, Written};
use crate::store::entities::commands::{command, output_blob, output_chunk};
use crate::store::queries::{OutputStream, SystemScope};
use output_chunk::Column::{FileBytes, LengthBytes, OffsetBytes};

/// Output up to this size stays in the database, as one row. A file for each would waste space.
pub(in crate::store::queries) const SMALL_BYTES: i64 = 4 * 1024;
/// Chunks of one read, at most 256 KiB each.
const READ_CHUNKS: u64 = 16;
/// Chunks of one deletion.
const DELETED_CHUNKS: u64 = 64;

/// Where the stored output of a command starts.
#[derive(Debug, Clone, Copy, Default)]
struct OutputStart {
    offset_bytes: i64,
    stdout_bytes: i64,
}

/// The result of compacting one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// Into a blob of this size.
    Blob { stored_bytes: u64 },
    /// Into one row.
    Row,
    /// More output arrived in the meantime, or there is none any more. A later run tries again.
    Unchanged,
}

impl SystemScope {
    /// Merges the chunks of an ended command into one blob, or into one row if they are short. Uses
    /// at most half of a processor. Compact one command at a time.
    ///
    /// # Errors
    /// [`StoreError`]; the stored output is then unchanged.
    pub async fn compact(&self, id: CommandId) -> Result<Compacted, StoreError> {
        let source = OutputSource { reader: &self.reader, blobs: &self.blobs };
        let blob = source.blob(id).await?;
        let Some(end) = self.chunks_end(id).await? else { return Ok(Compacted::Unchanged) };
        match &blob {
            // An earlier run got this far, or the output was dropped.
            Some(blob) if blob.dropped_at.is_some() || blob.length_bytes >= end => {
                self.delete_chunks(id, end).await?;
                Ok(Compacted::Blob { stored_bytes: blob.stored_bytes.cast_unsigned() })
            }
            None if end <= SMALL_BYTES => self.merge_rows(id).await,
            _ => self.make_blob(id, blob).await,
        }
    }

    async fn make_blob(
        &self,
        id: CommandId,
        former: Option<output_blob::Model>,
    ) -> Result<Compacted, StoreError> {
        let revision = former.as_ref().map_or(1, |blob| blob.revision + 1);
        let name = BlobName::Compacted(id, revision);
        let marks = former.as_ref().map(|former| received::decode(&former.received));
        let Some((start, written, marks)) =
            self.write_blob(name, marks.unwrap_or_default()).await?
        else {
            return Ok(Compacted::Unchanged);
        };
        let finished_at = self.finished_at(id).await?;
        let row = output_blob::Model {
            command_id: id,
            revision,
            length_bytes: start.offset_bytes + written.length_bytes.cast_signed(),
            stdout_bytes: start.stdout_bytes + written.stdout_bytes.cast_signed(),
            stored_bytes: written.stored_bytes.cast_signed(),
            finished_at,
            dropped_at: None,
            received: received::encode(&received::thin(marks)),
            start_bytes: start.offset_bytes,
            start_stdout_bytes: start.stdout_bytes,
        };
        let end = row.length_bytes;
        if !self.switch(row, revision - 1).await? {
            blocking(&self.blobs, move |blobs| blobs.delete(name)).await?;
            return Ok(Compacted::Unchanged);
        }
        if let Some(former) = former {
            let former = BlobName::Compacted(id, former.revision);
            blocking(&self.blobs, move |blobs| blobs.delete(former)).await?;
        }
        self.delete_chunks(id, end).await?;
        Ok(Compacted::Blob { stored_bytes: written.stored_bytes })
    }

    /// Writes all output of a command into a new file, which is durable when this returns. Adds the
    /// times of the chunks to `marks`. `None` if output was removed in the meantime.
    async fn write_blob(
        &self,
        name: BlobName,
        mut marks: Vec<Mark>,
    ) -> Result<Option<(OutputStart, Written, Vec<Mark>)>, StoreError> {
        let id = name.command_id();
        let source = OutputSource { reader: &self.reader, blobs: &self.blobs };
        let mut writer: BlockWriter<NewBlob> = blocking(&self.blobs, move |blobs| {
            blobs.check_space()?;
            BlockWriter::new(blobs.create(name)?, id)
        })
        .await?;
        let mut position =
            OutputPosition { stream: OutputStream::Both, from_bytes: 0, behind_bytes: None };
        let mut start = None;
        loop {
            let began_at = Instant::now();
            let chunks = source.chunks(id, position, READ_CHUNKS).await?;
            let Some(last) = chunks.last() else { break };
            let mut expected_bytes = position.from_bytes.cast_signed();
            if let (None, Some(first)) = (start, chunks.first()) {
                expected_bytes = first.offset_bytes;
                start = Some(OutputStart {
                    offset_bytes: first.offset_bytes,
                    stdout_bytes: first.stdout_offset_bytes,
                });
            }
            for chunk in &chunks {
                if chunk.offset_bytes != expected_bytes {
                    return Ok(None);
                }
                expected_bytes += chunk.length_bytes;
            }
            position.from_bytes = (last.offset_bytes + last.length_bytes).cast_unsigned();
            position.behind_bytes = Some(last.offset_bytes);
            marks.extend(chunks.iter().flat_map(|chunk| received::decode(&chunk.received)));
            marks = received::thin(marks);
            writer = blocking(&self.blobs, move |blobs| {
                blobs.check_space()?;
                chunks.iter().try_for_each(|chunk| writer.push(&chunk.records))?;
                Ok(writer)
            })
            .await?;
            // Running commands have priority, so this uses at most half of the time.
            tokio::time::sleep(began_at.elapsed().min(Duration::from_secs(1))).await;
        }
        let written = blocking(&self.blobs, move |_| {
            let (file, written) = writer.finish()?;
            file.finish()?;
            Ok(written)
        })
        .await?;
        Ok(Some((start.unwrap_or_default(), written, marks)))
    }

    /// Commits the blob in place of the chunks. False if it does not contain all of them.
    async fn switch(&self, row: output_blob::Model, former: i64) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let row = row.clone();
                Box::pin(async move { switch_to(transaction, row, former).await })
            })
            .await
    }

    /// Merges several short chunks into one row, in one write, so that nothing changes in between.
    async fn merge_rows(&self, id: CommandId) -> Result<Compacted, StoreError> {
        self.writer.change(move |transaction| Box::pin(merge_rows_of(transaction, id))).await
    }

    /// Deletes the chunks before an offset in small batches, then the file that held some of them.
    async fn delete_chunks(&self, id: CommandId, end_bytes: i64) -> Result<(), StoreError> {
        while self.delete_some_chunks(id, end_bytes).await? {}
        self.delete_unnamed_live(id).await
    }

    async fn delete_some_chunks(&self, id: CommandId, end: i64) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| Box::pin(delete_first_chunks(transaction, id, end)))
            .await
    }

    /// Removes a live file that no row references. Runs in the writer, so that nothing is added in
    /// between.
    pub(in crate::store::queries) async fn delete_unnamed_live(
        &self,
        id: CommandId,
    ) -> Result<(), StoreError> {
        let blobs = self.blobs.clone();
        self.writer
            .change(move |transaction| {
                let blobs = blobs.clone();
                Box::pin(async move {
                    let named = output_chunk::Entity::find()
                        .select_only()
                        .column(OffsetBytes)
                        .filter(output_chunk::Column::CommandId.eq(id))
                        .filter(FileBytes.gt(0))
                        .limit(1)
                        .into_tuple::<i64>()
                        .one(transaction)
                        .await?;
                    match named {
                        Some(_) => Ok(()),
                        None => {
                            blocking(&blobs, move |blobs| blobs.delete(BlobName::Live(id))).await
                        }
                    }
                })
            })
            .await
    }

    async fn chunks_end(&self, id: CommandId) -> Result<Option<i64>, StoreError> {
        let query = last_chunk(id).into_tuple::<(i64, i64)>();
        let last = query.one(&self.reader).await?;
        Ok(last.map(|(offset, length)| offset + length))
    }

    async fn finished_at(&self, id: CommandId) -> Result<Timestamp, StoreError> {
        let found: Option<Option<Timestamp>> = command::Entity::find_by_id(id)
            .select_only()
            .column(command::Column::FinishedAt)
            .into_tuple()
            .one(&self.reader)
            .await?;
        found.flatten().ok_or(StoreError::Refused("the command is gone, or goes on"))
    }
}

fn last_chunk(id: CommandId) -> sea_orm::Select<output_chunk::Entity> {
    output_chunk::Entity::find()
        .select_only()
        .columns([OffsetBytes, LengthBytes])
        .filter(output_chunk::Column::CommandId.eq(id))
        .order_by_desc(OffsetBytes)
        .limit(1)
}

async fn switch_to(
    transaction: &DatabaseTransaction,
    row: output_blob::Model,
    former: i64,
) -> Result<bool, StoreError> {
    let last = last_chunk(row.command_id).into_tuple::<(i64, i64)>().one(transaction).await?;
    let blob = output_blob::Entity::find_by_id(row.command_id).all(transaction).await?.pop();
    let is_kept = blob.as_ref().is_none_or(|blob| blob.dropped_at.is_none());
    let is_former = blob.map_or(0, |blob| blob.revision) == former;
    // The output may have been dropped in the meantime, or the command deleted.
    if last.map(|(offset, length)| offset + length) != Some(row.length_bytes)
        || !is_former
        || !is_kept
    {
        return Ok(false);
    }
    use output_blob::Column::{
        CommandId as Id, DroppedAt, FinishedAt, LengthBytes as Length, Received, Revision,
        StartBytes, StartStdoutBytes, StdoutBytes, StoredBytes,
    };
    let replace = OnConflict::column(Id)
        .update_columns([
            Revision,
            Length,
            StdoutBytes,
            StoredBytes,
            FinishedAt,
            DroppedAt,
            Received,
            StartBytes,
            StartStdoutBytes,
        ])
        .to_owned();
    output_blob::Entity::insert(row.into_active_model())
        .on_conflict(replace)
        .exec_without_returning(transaction)
        .await?;
    Ok(true)
}

async fn merge_rows_of(
    transaction: &DatabaseTransaction,
    id: CommandId,
) -> Result<Compacted, StoreError> {
    let chunks = output_chunk::Entity::find()
        .filter(output_chunk::Column::CommandId.eq(id))
        .order_by_asc(OffsetBytes)
        .all(transaction)
        .await?;
    let length_bytes = chunks.iter().map(|chunk| chunk.length_bytes).sum();
    // More output may have arrived. It is then not short any more, and the next run creates a blob.
    if chunks.len() < 2 || length_bytes > SMALL_BYTES || chunks.iter().any(|row| row.file_bytes > 0)
    {
        return Ok(Compacted::Unchanged);
    }
    let marks = chunks.iter().flat_map(|chunk| received::decode(&chunk.received)).collect();
    let merged = output_chunk::Model {
        command_id: id,
        offset_bytes: 0,
        length_bytes,
        stdout_offset_bytes: 0,
        stdout_bytes: chunks.iter().map(|chunk| chunk.stdout_bytes).sum(),
        records: chunks.into_iter().flat_map(|chunk| chunk.records).collect(),
        file_bytes: 0,
        file_end_bytes: 0,
        checksum: 0,
        received: received::encode(&received::thin(marks)),
    };
    output_chunk::Entity::delete_many()
        .filter(output_chunk::Column::CommandId.eq(id))
        .exec(transaction)
        .await?;
    output_chunk::Entity::insert(merged.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    Ok(Compacted::Row)
}

/// Deletes the first chunks before an offset. True if there may be more.
async fn delete_first_chunks(
    transaction: &DatabaseTransaction,
    id: CommandId,
    end_bytes: i64,
) -> Result<bool, StoreError> {
    let of_command = output_chunk::Column::CommandId.eq(id);
    let offsets: Vec<i64> = output_chunk::Entity::find()
        .select_only()
        .column(OffsetBytes)
        .filter(of_command.clone())
        .filter(OffsetBytes.lt(end_bytes))
        .order_by_asc(OffsetBytes)
        .limit(DELETED_CHUNKS)
        .into_tuple()
        .all(transaction)
        .await?;
    let Some(last) = offsets.last() else { return Ok(false) };
    output_chunk::Entity::delete_many()
        .filter(of_command)
        .filter(OffsetBytes.lte(*last))
        .exec(transaction)
        .await?;
    Ok(offsets.len() as u64 == DELETED_CHUNKS)
}
