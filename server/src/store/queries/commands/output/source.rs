//! Reads committed output from where it is stored: a compacted file, the live file, or rows.
//! Readers do not have to know which.

use sea_orm::sea_query::{Expr, ExprTrait as _, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, DatabaseConnection, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use muster_protocol::limits::MAX_OUTPUT_FRAME_BYTES;

use crate::domain::ids::CommandId;
use crate::store::StoreError;
use crate::store::blobs::{BlobError, BlobName, Blobs, OutputBlock};
use crate::store::entities::commands::{output_blob, output_chunk};
use crate::store::queries::OutputStream;
use output_chunk::Column::{LengthBytes, OffsetBytes, StdoutBytes, StdoutOffsetBytes};

/// The places that output is read from.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::queries) struct OutputSource<'a> {
    pub reader: &'a DatabaseConnection,
    pub blobs: &'a Blobs,
}

/// The position in a stream from which to read.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::queries) struct OutputPosition {
    pub stream: OutputStream,
    /// Payload of the stream before the position.
    pub from_bytes: u64,
    /// The start of a chunk that all requested chunks follow, if known.
    pub behind_bytes: Option<i64>,
}

impl OutputSource<'_> {
    /// At most `limit` chunks that end after a position, in order, with their records.
    pub(in crate::store::queries) async fn chunks(
        self,
        id: CommandId,
        position: OutputPosition,
        limit: u64,
    ) -> Result<Vec<output_chunk::Model>, StoreError> {
        let read = match self.read(id, position, limit).await {
            // Compacted after the rows were read and before the file was. The rows now reference
            // the new file.
            Err(StoreError::Blob(BlobError::Missing)) => self.read(id, position, limit).await,
            read => read,
        };
        if let Err(StoreError::Blob(error)) = &read
            && error.is_loss()
        {
            tracing::error!(command_id = %id, %error, "stored output is lost");
        }
        read
    }

    async fn read(
        self,
        id: CommandId,
        position: OutputPosition,
        limit: u64,
    ) -> Result<Vec<output_chunk::Model>, StoreError> {
        // Rows before the blob: rows are deleted only after a blob has replaced them.
        let mut chunks = rows_behind(id, position, limit).all(self.reader).await?;
        if let Some(blob) = self.blob(id).await? {
            if blob.dropped_at.is_some() {
                return Err(StoreError::OutputDropped);
            }
            if position.from_bytes < length_of(&blob, position.stream) {
                return self.read_blob(&blob, position, limit).await;
            }
            chunks.retain(|chunk| chunk.offset_bytes >= blob.length_bytes);
        }
        self.load(chunks).await
    }

    /// The row of a command's blob, if there is one.
    pub(in crate::store::queries) async fn blob(
        self,
        id: CommandId,
    ) -> Result<Option<output_blob::Model>, StoreError> {
        Ok(output_blob::Entity::find_by_id(id).all(self.reader).await?.pop())
    }

    async fn read_blob(
        self,
        blob: &output_blob::Model,
        position: OutputPosition,
        limit: u64,
    ) -> Result<Vec<output_chunk::Model>, StoreError> {
        let name = BlobName::Compacted(blob.command_id, blob.revision);
        let start = (blob.start_bytes.cast_unsigned(), blob.start_stdout_bytes.cast_unsigned());
        blocking(self.blobs, move |blobs| {
            let file = blobs.open_blocks(name)?.starting_at(start);
            // Blocks start at other offsets than chunks, so the last chunk that was read does not
            // help.
            let is_wanted =
                |block: &&OutputBlock| end_of(block, position.stream) > position.from_bytes;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let wanted = file.blocks().iter().filter(is_wanted).take(limit);
            wanted
                .map(|block| Ok(chunk_of(name.command_id(), block, file.records(block)?)))
                .collect()
        })
        .await
    }

    /// Adds the records that are in the live file.
    async fn load(
        self,
        mut chunks: Vec<output_chunk::Model>,
    ) -> Result<Vec<output_chunk::Model>, StoreError> {
        if chunks.iter().all(|chunk| chunk.file_bytes == 0) {
            return Ok(chunks);
        }
        blocking(self.blobs, move |blobs| {
            for chunk in chunks.iter_mut().filter(|chunk| chunk.file_bytes > 0) {
                let length = usize::try_from(chunk.file_bytes).unwrap_or(0);
                if length > MAX_OUTPUT_FRAME_BYTES {
                    return Err(BlobError::Damaged("the length of a chunk"));
                }
                let position = (chunk.file_end_bytes - chunk.file_bytes).cast_unsigned();
                let records = blobs.read(BlobName::Live(chunk.command_id), position, length)?;
                if i64::from(crc32fast::hash(&records)) != chunk.checksum {
                    return Err(BlobError::Damaged("the checksum of a chunk"));
                }
                chunk.records = records;
            }
            Ok(chunks)
        })
        .await
    }
}

/// Runs work on files outside the runtime's threads.
pub(in crate::store::queries) async fn blocking<T: Send + 'static>(
    blobs: &Blobs,
    work: impl FnOnce(&Blobs) -> Result<T, BlobError> + Send + 'static,
) -> Result<T, StoreError> {
    let blobs = blobs.clone();
    let done = tokio::task::spawn_blocking(move || work(&blobs)).await;
    Ok(done.unwrap_or(Err(BlobError::Stopped))?)
}

fn rows_behind(
    id: CommandId,
    position: OutputPosition,
    limit: u64,
) -> sea_orm::Select<output_chunk::Entity> {
    let query = output_chunk::Entity::find()
        .filter(output_chunk::Column::CommandId.eq(id))
        .filter(row_end(position.stream).gt(position.from_bytes.cast_signed()))
        .order_by_asc(OffsetBytes)
        .limit(limit);
    match position.behind_bytes {
        Some(behind_bytes) => query.filter(OffsetBytes.gt(behind_bytes)),
        // The chunk that holds the offset starts at most one frame before it, which keeps the
        // search inside the primary key.
        None if position.stream == OutputStream::Both => {
            let earliest = position.from_bytes.saturating_sub(MAX_OUTPUT_FRAME_BYTES as u64);
            query.filter(OffsetBytes.gte(earliest.cast_signed()))
        }
        None => query,
    }
}

pub(in crate::store::queries) fn row_end(stream: OutputStream) -> SimpleExpr {
    let col = |column| Expr::col(column);
    match stream {
        OutputStream::Both => col(OffsetBytes).add(col(LengthBytes)),
        OutputStream::Stdout => col(StdoutOffsetBytes).add(col(StdoutBytes)),
        OutputStream::Stderr => {
            col(OffsetBytes).add(col(LengthBytes)).sub(col(StdoutOffsetBytes)).sub(col(StdoutBytes))
        }
    }
}

/// Payload of a stream in a blob.
pub(in crate::store::queries) fn length_of(blob: &output_blob::Model, stream: OutputStream) -> u64 {
    match stream {
        OutputStream::Both => blob.length_bytes,
        OutputStream::Stdout => blob.stdout_bytes,
        OutputStream::Stderr => blob.length_bytes - blob.stdout_bytes,
    }
    .cast_unsigned()
}

fn end_of(block: &OutputBlock, stream: OutputStream) -> u64 {
    let end = block.offset_bytes + block.length_bytes;
    let stdout_end = block.stdout_offset_bytes + block.stdout_bytes;
    match stream {
        OutputStream::Both => end,
        OutputStream::Stdout => stdout_end,
        OutputStream::Stderr => end - stdout_end,
    }
}

fn chunk_of(command_id: CommandId, block: &OutputBlock, records: Vec<u8>) -> output_chunk::Model {
    output_chunk::Model {
        command_id,
        offset_bytes: block.offset_bytes.cast_signed(),
        length_bytes: block.length_bytes.cast_signed(),
        stdout_offset_bytes: block.stdout_offset_bytes.cast_signed(),
        stdout_bytes: block.stdout_bytes.cast_signed(),
        records,
        file_bytes: 0,
        file_end_bytes: 0,
        checksum: 0,
        // The row of the blob has the times of all of it.
        received: Vec::new(),
    }
}
