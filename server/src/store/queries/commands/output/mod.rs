//! Committed output.

pub mod candidates;
pub mod compaction;
pub mod orphans;
pub mod quota;
pub mod source;

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use self::source::{OutputPosition, OutputSource, length_of, row_end};
use crate::domain::commands::received::{self, Mark};
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::output_chunk;
use crate::store::queries::TenantScope;
use output_chunk::Column::{LengthBytes, OffsetBytes, Received, StdoutBytes, StdoutOffsetBytes};

/// Which payload of a command to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Both streams in the order they were read.
    Both,
    Stdout,
    Stderr,
}

/// The size and state of a command's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputSummary {
    /// Committed payload, both streams.
    pub length_bytes: u64,
    /// Payload that was removed before what is kept, because only the newest output is kept.
    pub start_bytes: u64,
    /// When it was dropped to make room for newer output.
    pub dropped_at: Option<Timestamp>,
}

impl TenantScope {
    fn source(&self) -> OutputSource<'_> {
        OutputSource { reader: &self.reader, blobs: &self.blobs }
    }

    /// Committed payload of a command, in bytes. The caller must have found the command in this
    /// scope.
    pub async fn output_end(&self, id: CommandId, stream: OutputStream) -> Result<u64, StoreError> {
        let last = output_chunk::Entity::find()
            .select_only()
            .columns([OffsetBytes, LengthBytes, StdoutOffsetBytes, StdoutBytes])
            .filter(output_chunk::Column::CommandId.eq(id))
            .order_by_desc(OffsetBytes)
            .limit(1)
            .into_tuple::<(i64, i64, i64, i64)>()
            .one(&self.reader)
            .await?;
        let Some((offset, length, stdout_offset, stdout)) = last else {
            let blob = self.source().blob(id).await?;
            return Ok(blob.map_or(0, |blob| length_of(&blob, stream)));
        };
        let end = match stream {
            OutputStream::Both => offset + length,
            OutputStream::Stdout => stdout_offset + stdout,
            OutputStream::Stderr => offset + length - stdout_offset - stdout,
        };
        Ok(end.cast_unsigned())
    }

    /// The size and state of a command's output. The caller must have found the command in this
    /// scope.
    pub async fn output_summary(&self, id: CommandId) -> Result<OutputSummary, StoreError> {
        let length_bytes = self.output_end(id, OutputStream::Both).await?;
        let blob = self.source().blob(id).await?;
        let start_bytes = self.output_start(id, OutputStream::Both).await?;
        let dropped_at = blob.and_then(|blob| blob.dropped_at);
        Ok(OutputSummary { length_bytes, start_bytes, dropped_at })
    }

    /// Payload of a stream that was removed before what is kept, in bytes. The caller must have found the command
    /// in this scope.
    pub async fn output_start(
        &self,
        id: CommandId,
        stream: OutputStream,
    ) -> Result<u64, StoreError> {
        // Rows before the blob, as everywhere: rows are deleted only after a blob has replaced them.
        let first = output_chunk::Entity::find()
            .select_only()
            .columns([OffsetBytes, StdoutOffsetBytes])
            .filter(output_chunk::Column::CommandId.eq(id))
            .order_by_asc(OffsetBytes)
            .limit(1)
            .into_tuple::<(i64, i64)>()
            .one(&self.reader)
            .await?;
        let blob = self.source().blob(id).await?;
        let blob = blob.map(|blob| (blob.start_bytes, blob.start_stdout_bytes));
        let Some((both, stdout)) = blob.or(first) else { return Ok(0) };
        let start = match stream {
            OutputStream::Both => both,
            OutputStream::Stdout => stdout,
            OutputStream::Stderr => both - stdout,
        };
        Ok(start.cast_unsigned())
    }

    /// At most `limit` chunks that end after an offset of a stream, in order. `from` is that offset
    /// and, if known, the start of a chunk that all of them follow.
    ///
    /// # Errors
    /// [`StoreError::OutputDropped`]; [`StoreError::Blob`] if stored output is damaged or missing.
    /// Wrong bytes are never returned.
    pub async fn output_chunks(
        &self,
        id: CommandId,
        stream: OutputStream,
        from: (u64, Option<i64>),
        limit: u64,
    ) -> Result<Vec<output_chunk::Model>, StoreError> {
        let (from_bytes, behind_bytes) = from;
        self.source().chunks(id, OutputPosition { stream, from_bytes, behind_bytes }, limit).await
    }

    /// When the output from an offset on was received, in order: at most `limit` marks, from the last
    /// one that is not after the offset, and the offset of the next mark if there are more. The caller
    /// must have found the command in this scope.
    ///
    /// # Errors
    /// [`StoreError::OutputDropped`].
    pub async fn output_received(
        &self,
        id: CommandId,
        from_bytes: u64,
        limit: usize,
    ) -> Result<(Vec<Mark>, Option<u64>), StoreError> {
        // Rows before the blob: rows are deleted only after a blob has replaced them.
        let rows = output_chunk::Entity::find()
            .select_only()
            .columns([OffsetBytes, Received])
            .filter(output_chunk::Column::CommandId.eq(id))
            .filter(row_end(OutputStream::Both).gt(from_bytes.cast_signed()))
            .order_by_asc(OffsetBytes)
            .limit(limit as u64 + 1)
            .into_tuple::<(i64, Vec<u8>)>()
            .all(&self.reader)
            .await?;
        let blob = self.source().blob(id).await?;
        if blob.as_ref().is_some_and(|blob| blob.dropped_at.is_some()) {
            return Err(StoreError::OutputDropped);
        }
        let end_bytes = blob.as_ref().map_or(0, |blob| blob.length_bytes);
        let mut marks = blob.map(|blob| received::decode(&blob.received)).unwrap_or_default();
        let later = rows.iter().filter(|(offset, _)| *offset >= end_bytes);
        marks.extend(later.flat_map(|(_, stored)| received::decode(stored)));
        let first = marks.partition_point(|mark| mark.offset_bytes <= from_bytes).max(1) - 1;
        let mut marks = marks.split_off(first.min(marks.len()));
        let next_bytes = marks.get(limit).map(|mark| mark.offset_bytes);
        marks.truncate(limit);
        Ok((marks, next_bytes))
    }
}
