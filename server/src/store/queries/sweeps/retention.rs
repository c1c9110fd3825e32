//! What is dropped when it is old, slice by slice: a long backlog must not hold up the writer.

use sea_orm::sea_query::{Expr, Query, SelectStatement};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, ExprTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::{NoContext, Uuid};

use crate::domain::ids::{CommandId, DeliveryId, EventId, JobId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::DeliveryState;
use crate::store::StoreError;
use crate::store::blobs::BlobName;
use crate::store::entities::{
    agent_event, command, command_report, idempotency_record, job, output_blob, output_chunk,
    rollout, telemetry_sample, webhook_delivery,
};

/// Rows of one kind in a slice.
const SLICE_ROWS: u64 = 500;
/// Time that a slice of rows without an id covers.
const SLICE_MS: u64 = 60_000;

/// Instants before which rows are dropped.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub telemetry_before: Timestamp,
    pub idempotency_before: Timestamp,
    pub history_before: Timestamp,
    pub deliveries_before: Timestamp,
}

/// What came of a slice.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub may_have_more: bool,
    /// Files that no row names after the commit.
    pub files: Vec<BlobName>,
}

/// Drops a slice of each kind.
pub(super) async fn drop_slice(
    transaction: &DatabaseTransaction,
    retention: Retention,
) -> Result<Dropped, StoreError> {
    let telemetry = drop_telemetry(transaction, retention.telemetry_before).await?;
    let records = drop_records(transaction, retention.idempotency_before).await?;
    let events = drop_events(transaction, retention.history_before).await?;
    let commands = drop_commands(transaction, retention.history_before).await?;
    let jobs = drop_jobs(transaction, retention.history_before).await?;
    let deliveries = drop_deliveries(transaction, retention.deliveries_before).await?;
    let may_have_more =
        telemetry || records || events || commands.may_have_more || jobs || deliveries;
    Ok(Dropped { may_have_more, ..commands })
}

async fn drop_telemetry(
    transaction: &DatabaseTransaction,
    before: Timestamp,
) -> Result<bool, StoreError> {
    use telemetry_sample::Column::At;
    let oldest: Option<Timestamp> = telemetry_sample::Entity::find()
        .select_only()
        .column(At)
        .order_by_asc(At)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    let Some(oldest) = oldest.filter(|at| *at < before) else { return Ok(false) };
    telemetry_sample::Entity::delete_many()
        .filter(At.lt(std::cmp::min(before, oldest.plus_ms(SLICE_MS))))
        .exec(transaction)
        .await?;
    Ok(true)
}

async fn drop_records(
    transaction: &DatabaseTransaction,
    before: Timestamp,
) -> Result<bool, StoreError> {
    use idempotency_record::Column::CreatedAt;
    let oldest: Option<Timestamp> = idempotency_record::Entity::find()
        .select_only()
        .column(CreatedAt)
        .order_by_asc(CreatedAt)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    let Some(oldest) = oldest.filter(|at| *at < before) else { return Ok(false) };
    idempotency_record::Entity::delete_many()
        .filter(CreatedAt.lt(std::cmp::min(before, oldest.plus_ms(SLICE_MS))))
        .exec(transaction)
        .await?;
    Ok(true)
}

/// The smallest id that was made at an instant or later.
pub(in crate::store::queries) fn first_id_at(at: Timestamp) -> Uuid {
    let milliseconds = Ord::max(at.0, 0).cast_unsigned();
    let instant = uuid::Timestamp::from_unix(
        NoContext,
        milliseconds / 1_000,
        u32::try_from(milliseconds % 1_000 * 1_000_000).unwrap_or(0),
    );
    let mut bytes = *Uuid::new_v7(instant).as_bytes();
    // Everything behind the milliseconds is random: the smallest has none of it.
    bytes[6] = 0x70;
    bytes[7] = 0;
    bytes[8] = 0x80;
    bytes[9..].fill(0);
    Uuid::from_bytes(bytes)
}

async fn drop_events(
    transaction: &DatabaseTransaction,
    before: Timestamp,
) -> Result<bool, StoreError> {
    let ids: Vec<EventId> = agent_event::Entity::find()
        .select_only()
        .column(agent_event::Column::Id)
        .filter(agent_event::Column::Id.lt(first_id_at(before)))
        .order_by_asc(agent_event::Column::Id)
        .limit(SLICE_ROWS)
        .into_tuple()
        .all(transaction)
        .await?;
    let is_full = ids.len() as u64 == SLICE_ROWS;
    if !ids.is_empty() {
        agent_event::Entity::delete_many()
            .filter(agent_event::Column::Id.is_in(ids))
            .exec(transaction)
            .await?;
    }
    Ok(is_full)
}

/// Commands that were made and have ended before an instant, with their reports and output. Those
/// of a job that is not over, or not for long enough, stay: what became of it stands in them.
async fn drop_commands(
    transaction: &DatabaseTransaction,
    before: Timestamp,
) -> Result<Dropped, StoreError> {
    let ids: Vec<CommandId> = command::Entity::find()
        .select_only()
        .column(command::Column::Id)
        .filter(command::Column::Id.lt(first_id_at(before)))
        .filter(command::Column::FinishedAt.lt(before))
        .filter(Expr::not_exists(young_job(before)))
        .order_by_asc(command::Column::Id)
        .limit(SLICE_ROWS)
        .into_tuple()
        .all(transaction)
        .await?;
    let may_have_more = ids.len() as u64 == SLICE_ROWS;
    if ids.is_empty() {
        return Ok(Dropped::default());
    }
    let files = files_of(transaction, &ids).await?;
    output_blob::Entity::delete_many()
        .filter(output_blob::Column::CommandId.is_in(ids.clone()))
        .exec(transaction)
        .await?;
    output_chunk::Entity::delete_many()
        .filter(output_chunk::Column::CommandId.is_in(ids.clone()))
        .exec(transaction)
        .await?;
    command_report::Entity::delete_many()
        .filter(command_report::Column::CommandId.is_in(ids.clone()))
        .exec(transaction)
        .await?;
    command::Entity::delete_many().filter(command::Column::Id.is_in(ids)).exec(transaction).await?;
    Ok(Dropped { may_have_more, files })
}

/// The job of a command, if that has not ended before an instant.
fn young_job(before: Timestamp) -> SelectStatement {
    Query::select()
        .expr(Expr::val(1))
        .from(job::Entity)
        .and_where(
            Expr::col((job::Entity, job::Column::Id))
                .eq(Expr::col((command::Entity, command::Column::JobId))),
        )
        .and_where(
            Expr::col((job::Entity, job::Column::FinishedAt)).is_null().or(Expr::col((
                job::Entity,
                job::Column::FinishedAt,
            ))
            .gte(before.0)),
        )
        .take()
}

/// The files that rows of these commands name.
async fn files_of(
    transaction: &DatabaseTransaction,
    ids: &[CommandId],
) -> Result<Vec<BlobName>, StoreError> {
    let live: Vec<CommandId> = output_chunk::Entity::find()
        .select_only()
        .column(output_chunk::Column::CommandId)
        .distinct()
        .filter(output_chunk::Column::CommandId.is_in(ids.iter().copied()))
        .filter(output_chunk::Column::FileBytes.gt(0))
        .into_tuple()
        .all(transaction)
        .await?;
    let blobs: Vec<(CommandId, i64)> = output_blob::Entity::find()
        .select_only()
        .column(output_blob::Column::CommandId)
        .column(output_blob::Column::Generation)
        .filter(output_blob::Column::CommandId.is_in(ids.iter().copied()))
        .into_tuple()
        .all(transaction)
        .await?;
    let blobs = blobs.into_iter().map(|(id, generation)| BlobName::Compacted(id, generation));
    Ok(live.into_iter().map(BlobName::Live).chain(blobs).collect())
}

/// Jobs of before an instant of which no execution is left.
async fn drop_jobs(
    transaction: &DatabaseTransaction,
    before: Timestamp,
) -> Result<bool, StoreError> {
    let executions = Query::select()
        .expr(Expr::val(1))
        .from(command::Entity)
        .and_where(
            Expr::col((command::Entity, command::Column::JobId))
                .equals((job::Entity, job::Column::Id)),
        )
        .take();
    let ids: Vec<JobId> = job::Entity::find()
        .select_only()
        .column(job::Column::Id)
        .filter(job::Column::Id.lt(first_id_at(before)))
        .filter(Expr::exists(executions).not())
        .order_by_asc(job::Column::Id)
        .limit(SLICE_ROWS)
        .into_tuple()
        .all(transaction)
        .await?;
    let is_full = ids.len() as u64 == SLICE_ROWS;
    if !ids.is_empty() {
        rollout::Entity::delete_many()
            .filter(rollout::Column::JobId.is_in(ids.clone()))
            .exec(transaction)
            .await?;
        job::Entity::delete_many().filter(job::Column::Id.is_in(ids)).exec(transaction).await?;
    }
    Ok(is_full)
}

/// Webhooks that were made before an instant and are delivered or given up.
async fn drop_deliveries(
    transaction: &DatabaseTransaction,
    before: Timestamp,
) -> Result<bool, StoreError> {
    let ids: Vec<DeliveryId> = webhook_delivery::Entity::find()
        .select_only()
        .column(webhook_delivery::Column::Id)
        .filter(webhook_delivery::Column::Id.lt(first_id_at(before)))
        .filter(webhook_delivery::Column::State.ne(DeliveryState::Pending))
        .order_by_asc(webhook_delivery::Column::Id)
        .limit(SLICE_ROWS)
        .into_tuple()
        .all(transaction)
        .await?;
    let is_full = ids.len() as u64 == SLICE_ROWS;
    if !ids.is_empty() {
        webhook_delivery::Entity::delete_many()
            .filter(webhook_delivery::Column::Id.is_in(ids))
            .exec(transaction)
            .await?;
    }
    Ok(is_full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_made_now_is_neither_before_now_nor_behind_the_next_millisecond() {
        let id = Uuid::now_v7();
        let (seconds, nanoseconds) = id.get_timestamp().expect("of version 7").to_unix();
        let made = Timestamp((seconds * 1_000).cast_signed() + i64::from(nanoseconds / 1_000_000));
        assert!(first_id_at(made) <= id);
        assert!(id < first_id_at(made.plus_ms(1)));
    }
}
