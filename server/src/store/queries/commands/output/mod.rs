//! Committed output.

pub mod candidates;
pub mod compaction;
pub mod orphans;
pub mod quota;
pub mod source;

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use self::source::{OutputPosition, OutputSource, length_of};
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::output_chunk;
use crate::store::queries::TenantScope;
use output_chunk::Column::{LengthBytes, OffsetBytes, StdoutBytes, StdoutOffsetBytes};

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
        Ok(OutputSummary { length_bytes, dropped_at: blob.and_then(|blob| blob.dropped_at) })
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
}
