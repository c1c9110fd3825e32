//! Stores output: short chunks in rows, long ones in the live file of the command.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use muster_protocol::limits::MAX_OUTPUT_FRAME_BYTES;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::received::{self, Mark};
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::blobs::{BlobError, BlobName, Blobs};
use crate::store::entities::commands::{output_blob, output_chunk};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::{BatchOperation, rows};

/// Records from this size on go into a file, because a database writes them twice. Below it, one
/// sync for all rows of a transaction costs less than one sync for each file.
const FILE_FROM_BYTES: usize = 64 * 1024;
/// The first bytes of each command are stored even if the disk is almost full: most commands have no
/// more.
const SHORT_BYTES: u64 = 4 * 1024;
/// Into so many parts the kept output of a service is divided: older output is removed by parts.
const ROTATION_PARTS: u64 = 16;
/// Most files that are synced at once.
const SYNCS: usize = 16;

/// Adds a chunk of output.
///
/// Shape: whole records; `offset_bytes` is the end of the committed output, which the session knows
/// because its epoch excludes other writers. A chunk after a gap is refused: an earlier one failed.
pub struct AppendOutput {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub command_id: CommandId,
    /// Payload before the chunk, both streams.
    pub offset_bytes: u64,
    /// Payload of the chunk.
    pub length_bytes: u64,
    /// Payload of stdout before the chunk.
    pub stdout_offset_bytes: u64,
    /// Payload of stdout in the chunk.
    pub stdout_bytes: u64,
    pub records: Bytes,
    /// When the server got it.
    pub received_at: Timestamp,
    /// How much of the newest output is kept, if older output is removed. Such output is in rows only.
    pub max_log_bytes: Option<u64>,
}

impl BatchOperation for AppendOutput {
    /// The end of the committed output.
    type Done = u64;

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<u64, StoreError>>, DbErr> {
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let space = tx.blobs.check_space();
        let mut appends: HashMap<CommandId, OutputAppend> = HashMap::new();
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            let append = match appends.remove(&operation.command_id) {
                Some(append) => append,
                None => OutputAppend::read(tx.transaction, operation).await?,
            };
            let append = appends.entry(operation.command_id).or_insert(append);
            let admitted = epochs.check(operation.agent_id, operation.epoch);
            let admitted = match operation.is_short() {
                true => admitted,
                false => admitted.and_then(|()| Ok(space.clone()?)),
            };
            results.push(admitted.and_then(|()| append.push(operation)));
        }
        let failed = write_files(tx.blobs, &mut appends).await;
        for (operation, result) in operations.iter().zip(&mut results) {
            if let (Ok(_), Some(error)) = (&result, failed.get(&operation.command_id)) {
                *result = Err(error.clone().into());
            }
        }
        let stored = operations.iter().zip(&results).filter(|(_, result)| result.is_ok());
        tx.metrics.stored_output(stored.map(|(operation, _)| operation.length_bytes).sum());
        // After the sync of the files: rows never name bytes that may be lost.
        let whole = appends.into_iter().filter(|(id, _)| !failed.contains_key(id));
        let chunks = whole.flat_map(|(_, append)| append.chunks).collect();
        rows::insert(tx.transaction, chunks, None).await?;
        let stored = operations.iter().zip(&results).filter(|(_, result)| result.is_ok());
        for (id, cutoff_bytes) in cutoffs(stored.map(|(operation, _)| operation)) {
            remove_before(tx.transaction, id, cutoff_bytes).await?;
        }
        Ok(results)
    }
}

/// What a batch appends to the output of one command.
struct OutputAppend {
    end_bytes: u64,
    /// Size of the live file before the batch.
    file_start_bytes: u64,
    file_end_bytes: u64,
    pieces: Vec<Bytes>,
    chunks: Vec<output_chunk::ActiveModel>,
}

impl OutputAppend {
    /// Reads the end of the committed output with one lookup by primary key.
    async fn read(transaction: &DatabaseTransaction, first: &AppendOutput) -> Result<Self, DbErr> {
        let last: Option<(i64, i64, i64)> = output_chunk::Entity::find()
            .select_only()
            .column(output_chunk::Column::OffsetBytes)
            .column(output_chunk::Column::LengthBytes)
            .column(output_chunk::Column::FileEndBytes)
            .filter(output_chunk::Column::CommandId.eq(first.command_id))
            .order_by_desc(output_chunk::Column::OffsetBytes)
            .limit(1)
            .into_tuple()
            .one(transaction)
            .await?;
        let (end, file_end) = match last {
            Some((offset, length, file_end)) => (offset + length, file_end),
            // All earlier output is compacted, or there is none.
            None if first.offset_bytes > 0 => {
                let blob = output_blob::Entity::find_by_id(first.command_id);
                let blob = blob.all(transaction).await?.pop();
                (blob.map_or(0, |blob| blob.length_bytes), 0)
            }
            None => (0, 0),
        };
        Ok(Self {
            end_bytes: end.cast_unsigned(),
            file_start_bytes: file_end.cast_unsigned(),
            file_end_bytes: file_end.cast_unsigned(),
            pieces: Vec::new(),
            chunks: Vec::new(),
        })
    }

    /// Adds a chunk. It is refused after a gap: an earlier chunk may have failed while this one
    /// waited.
    fn push(&mut self, operation: &AppendOutput) -> Result<u64, StoreError> {
        if self.end_bytes != operation.offset_bytes {
            return Err(StoreError::OutputMissing);
        }
        self.end_bytes += operation.length_bytes;
        let is_long =
            operation.records.len() >= FILE_FROM_BYTES && operation.max_log_bytes.is_none();
        if is_long {
            self.file_end_bytes += operation.records.len() as u64;
            self.pieces.push(operation.records.clone());
        }
        self.chunks.push(operation.chunk(is_long, self.file_end_bytes));
        Ok(self.end_bytes)
    }
}

/// Up to where the output of rotated commands is removed now. Each removal costs a statement, so it happens when a
/// part of the kept output has changed.
fn cutoffs<'a>(stored: impl Iterator<Item = &'a AppendOutput>) -> HashMap<CommandId, u64> {
    let mut cutoffs = HashMap::new();
    for operation in stored {
        let Some(kept_bytes) = operation.max_log_bytes else { continue };
        let end_bytes = operation.offset_bytes + operation.length_bytes;
        let part_bytes = (kept_bytes / ROTATION_PARTS).max(1);
        let is_due = operation.offset_bytes / part_bytes < end_bytes / part_bytes;
        if is_due && end_bytes > kept_bytes {
            cutoffs.insert(operation.command_id, end_bytes - kept_bytes);
        }
    }
    cutoffs
}

/// Removes the rows that end before an offset, and compacted output that does. What stays is contiguous: compacted
/// output precedes all rows.
async fn remove_before(
    transaction: &DatabaseTransaction,
    id: CommandId,
    cutoff_bytes: u64,
) -> Result<(), DbErr> {
    // The row that holds the offset starts less than one frame before it.
    let start_bytes = cutoff_bytes.saturating_sub(MAX_OUTPUT_FRAME_BYTES as u64).cast_signed();
    let removed = output_chunk::Entity::delete_many()
        .filter(output_chunk::Column::CommandId.eq(id))
        .filter(output_chunk::Column::OffsetBytes.lt(start_bytes))
        .exec(transaction)
        .await?;
    if removed.rows_affected > 0 {
        // A sweep removes its file.
        output_blob::Entity::delete_many()
            .filter(output_blob::Column::CommandId.eq(id))
            .filter(output_blob::Column::LengthBytes.lte(start_bytes))
            .exec(transaction)
            .await?;
    }
    Ok(())
}

/// Writes and syncs the live files. Returns the errors by command.
async fn write_files(
    blobs: &Blobs,
    appends: &mut HashMap<CommandId, OutputAppend>,
) -> HashMap<CommandId, BlobError> {
    let files = appends.iter_mut().filter(|(_, append)| !append.pieces.is_empty());
    let writes: Vec<_> = files
        .map(|(id, append)| {
            let (id, position) = (*id, append.file_start_bytes);
            let (blobs, pieces) = (blobs.clone(), std::mem::take(&mut append.pieces));
            async move {
                let write = move || blobs.append(BlobName::Live(id), position, &pieces);
                let written = tokio::task::spawn_blocking(write).await;
                (id, written.unwrap_or(Err(BlobError::Stopped)))
            }
        })
        .collect();
    let written = stream::iter(writes).buffer_unordered(SYNCS);
    written.filter_map(async |(id, written)| Some((id, written.err()?))).collect().await
}

impl AppendOutput {
    fn is_short(&self) -> bool {
        self.offset_bytes + self.length_bytes <= SHORT_BYTES
    }

    fn chunk(&self, is_long: bool, file_end_bytes: u64) -> output_chunk::ActiveModel {
        let (records, file_bytes, checksum) = match is_long {
            true => (Vec::new(), self.records.len() as i64, crc32fast::hash(&self.records)),
            false => (self.records.to_vec(), 0, 0),
        };
        output_chunk::ActiveModel {
            command_id: Set(self.command_id),
            offset_bytes: Set(self.offset_bytes.cast_signed()),
            length_bytes: Set(self.length_bytes.cast_signed()),
            stdout_offset_bytes: Set(self.stdout_offset_bytes.cast_signed()),
            stdout_bytes: Set(self.stdout_bytes.cast_signed()),
            records: Set(records),
            file_bytes: Set(file_bytes),
            file_end_bytes: Set(file_end_bytes.cast_signed()),
            checksum: Set(checksum.into()),
            received: Set(received::encode(&[Mark {
                offset_bytes: self.offset_bytes,
                received_at: self.received_at,
            }])),
        }
    }
}
