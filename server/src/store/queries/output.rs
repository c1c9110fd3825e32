//! Committed output.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use muster_protocol::limits::MAX_OUTPUT_FRAME_BYTES;

use super::TenantScope;
use crate::domain::ids::CommandId;
use crate::store::StoreError;
use crate::store::entities::output_chunk;
use output_chunk::Column::{LengthBytes, OffsetBytes, StdoutBytes, StdoutOffsetBytes};

/// Which payload of a command is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Both streams in the order they were read.
    Both,
    Stdout,
    Stderr,
}

impl TenantScope {
    /// Payload bytes committed of a command. The caller has found the command in this scope.
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
        let Some((offset, length, stdout_offset, stdout)) = last else { return Ok(0) };
        let end = match stream {
            OutputStream::Both => offset + length,
            OutputStream::Stdout => stdout_offset + stdout,
            OutputStream::Stderr => offset + length - stdout_offset - stdout,
        };
        Ok(end.cast_unsigned())
    }

    /// Chunks that end behind an offset of a stream, in order, at most `limit`. `from` is that
    /// offset, and where a chunk begins that all of them follow, if one is known.
    pub async fn output_chunks(
        &self,
        id: CommandId,
        stream: OutputStream,
        from: (u64, Option<i64>),
        limit: u64,
    ) -> Result<Vec<output_chunk::Model>, StoreError> {
        let (from_bytes, behind_bytes) = from;
        let col = |column| Expr::col(column);
        let end = match stream {
            OutputStream::Both => col(OffsetBytes).add(col(LengthBytes)),
            OutputStream::Stdout => col(StdoutOffsetBytes).add(col(StdoutBytes)),
            OutputStream::Stderr => col(OffsetBytes)
                .add(col(LengthBytes))
                .sub(col(StdoutOffsetBytes))
                .sub(col(StdoutBytes)),
        };
        let mut query = output_chunk::Entity::find()
            .filter(output_chunk::Column::CommandId.eq(id))
            .filter(end.gt(from_bytes.cast_signed()))
            .order_by_asc(OffsetBytes)
            .limit(limit);
        if let Some(behind_bytes) = behind_bytes {
            query = query.filter(OffsetBytes.gt(behind_bytes));
        } else if stream == OutputStream::Both {
            // The chunk that holds the offset starts at most one frame before it, which keeps the
            // search inside the primary key.
            let earliest = from_bytes.saturating_sub(MAX_OUTPUT_FRAME_BYTES as u64);
            query = query.filter(OffsetBytes.gte(earliest.cast_signed()));
        }
        Ok(query.all(&self.reader).await?)
    }
}
