//! Output into storage.

use std::collections::HashMap;

use bytes::Bytes;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::connection::Work;
use super::epoch::Epochs;
use super::{Merge, rows};
use crate::domain::ids::{AgentId, CommandId};
use crate::store::StoreError;
use crate::store::entities::output_chunk;

/// Adds a chunk of output.
///
/// Shape: whole records; `offset_bytes` is where the command's committed output ends, which the
/// session knows, since its epoch fences off every other. A chunk that does not continue what is
/// committed is refused: one before it has failed.
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
}

impl Merge for AppendOutput {
    /// The offset up to which output is now committed.
    type Done = u64;

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        work: &Work<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<u64, StoreError>>, DbErr> {
        let transaction = work.transaction;
        let epochs = Epochs::read(work, operations.iter().map(|op| op.agent_id)).await?;
        let mut chunks = Vec::with_capacity(operations.len());
        let mut results = Vec::with_capacity(operations.len());
        let mut ends: HashMap<CommandId, u64> = HashMap::new();
        for operation in operations {
            let end = match ends.get(&operation.command_id) {
                Some(end) => *end,
                None => committed_end(work.transaction, operation.command_id).await?,
            };
            // A chunk may have failed while those behind it were waiting: no gap is ever stored.
            let current = epochs.check(operation.agent_id, operation.epoch);
            let continues = current.and_then(|()| match end == operation.offset_bytes {
                true => Ok(()),
                false => Err(StoreError::Database(DbErr::Custom("output with a gap".into()))),
            });
            ends.insert(operation.command_id, end);
            match continues {
                Ok(()) => {
                    ends.insert(operation.command_id, end + operation.length_bytes);
                    chunks.push(operation.chunk());
                    results.push(Ok(operation.offset_bytes + operation.length_bytes));
                }
                Err(error) => results.push(Err(error)),
            }
        }
        rows::insert(transaction, chunks, None).await?;
        Ok(results)
    }
}

/// Payload committed of a command so far: one look into the primary key.
async fn committed_end(
    transaction: &DatabaseTransaction,
    command_id: CommandId,
) -> Result<u64, DbErr> {
    let last: Option<(i64, i64)> = output_chunk::Entity::find()
        .select_only()
        .column(output_chunk::Column::OffsetBytes)
        .column(output_chunk::Column::LengthBytes)
        .filter(output_chunk::Column::CommandId.eq(command_id))
        .order_by_desc(output_chunk::Column::OffsetBytes)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    Ok(last.map_or(0, |(offset, length)| (offset + length).cast_unsigned()))
}

impl AppendOutput {
    fn chunk(&self) -> output_chunk::ActiveModel {
        output_chunk::ActiveModel {
            command_id: Set(self.command_id),
            offset_bytes: Set(self.offset_bytes.cast_signed()),
            length_bytes: Set(self.length_bytes.cast_signed()),
            stdout_offset_bytes: Set(self.stdout_offset_bytes.cast_signed()),
            stdout_bytes: Set(self.stdout_bytes.cast_signed()),
            records: Set(self.records.to_vec()),
        }
    }
}
