//! Output into storage.

use bytes::Bytes;
use sea_orm::{ActiveValue::Set, DbErr};

use super::connection::Work;
use super::epoch::Epochs;
use super::{Merge, rows};
use crate::domain::ids::{AgentId, CommandId};
use crate::store::StoreError;
use crate::store::entities::output_chunk;

/// Adds a chunk of output.
///
/// Shape: whole records; `offset_bytes` is where the command's committed output ends, which the
/// session knows, since its epoch fences off every other.
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

    async fn apply(
        work: &Work<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<u64, StoreError>>, DbErr> {
        let transaction = work.transaction;
        let epochs = Epochs::read(work, operations.iter().map(|op| op.agent_id)).await?;
        let mut chunks = Vec::with_capacity(operations.len());
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            match epochs.check(operation.agent_id, operation.epoch) {
                Ok(()) => {
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
