//! Checks whether the output before a report is stored, as chunks or compacted.

use std::collections::{HashMap, HashSet};

use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::CommandId;
use crate::store::entities::commands::{output_blob, output_chunk};
use crate::store::writer::MAX_LIST;
use crate::store::writer::rows::pad_to_power_of_two;
use output_chunk::Column::{CommandId as Id, LengthBytes, OffsetBytes};

/// A command and the offset of one of its chunks.
pub(in crate::store::writer) type ChunkPlace = (CommandId, i64);

/// The stored part of some output.
pub(in crate::store::writer) struct StoredOutput {
    /// Chunks that are stored as they were received.
    chunks: HashSet<ChunkPlace>,
    /// For other chunks, the end of the stored output of their commands.
    ends: HashMap<CommandId, i64>,
}

impl StoredOutput {
    pub(in crate::store::writer) async fn read(
        transaction: &DatabaseTransaction,
        wanted: Vec<ChunkPlace>,
    ) -> Result<Self, DbErr> {
        // Most commands have one chunk, for which the id is enough.
        let (first, later): (Vec<_>, Vec<_>) = wanted.iter().partition(|(_, offset)| *offset == 0);
        let mut chunks = HashSet::with_capacity(wanted.len());
        for first in first.chunks(MAX_LIST) {
            let ids = pad_to_power_of_two(first.iter().map(|(id, _)| *id));
            let places = places().filter(OffsetBytes.eq(0)).filter(Id.is_in(ids));
            chunks.extend(places.into_tuple::<ChunkPlace>().all(transaction).await?);
        }
        for later in later.chunks(MAX_LIST) {
            // As conditions: for a list of pairs SQLite would scan the whole index.
            let pair = |(id, offset): ChunkPlace| Id.eq(id).and(OffsetBytes.eq(offset));
            let pairs = pad_to_power_of_two(later.iter().copied()).into_iter().map(pair);
            let places = places().filter(pairs.fold(Condition::any(), Condition::add));
            chunks.extend(places.into_tuple::<ChunkPlace>().all(transaction).await?);
        }
        let mut ends = HashMap::new();
        for (id, _) in wanted.iter().filter(|place| !chunks.contains(*place)) {
            // Rare, and one lookup by primary key each.
            if !ends.contains_key(id) {
                ends.insert(*id, end_of(transaction, *id).await?);
            }
        }
        Ok(Self { chunks, ends })
    }

    /// True if the chunk is stored, by itself or merged into another one. Output is stored without
    /// gaps, so everything before the end is stored.
    pub(in crate::store::writer) fn reaches(&self, chunk: ChunkPlace) -> bool {
        self.chunks.contains(&chunk) || self.ends.get(&chunk.0).is_some_and(|end| *end > chunk.1)
    }
}

fn places() -> sea_orm::Select<output_chunk::Entity> {
    output_chunk::Entity::find().select_only().column(Id).column(OffsetBytes)
}

/// End of the stored output of a command: of its last chunk, or of the compacted output.
async fn end_of(transaction: &DatabaseTransaction, id: CommandId) -> Result<i64, DbErr> {
    let last: Option<(i64, i64)> = output_chunk::Entity::find()
        .select_only()
        .columns([OffsetBytes, LengthBytes])
        .filter(Id.eq(id))
        .order_by_desc(OffsetBytes)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    if let Some((offset, length)) = last {
        return Ok(offset + length);
    }
    let blob = output_blob::Entity::find_by_id(id).all(transaction).await?.pop();
    Ok(blob.map_or(0, |blob| blob.length_bytes))
}
