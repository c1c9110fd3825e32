//! Deletes old data slice by slice, so that a long backlog does not block the writer.

use sea_orm::sea_query::{Expr, Query, SelectStatement};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait, ExprTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
};
use uuid::Uuid;

use crate::domain::commands::approval::ApprovalState;
use crate::domain::ids::{CommandId, TenantId, first_id_at};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::blobs::BlobName;
use crate::store::entities::commands::idempotency_record::Column::CreatedAt as RecordCreatedAt;
use crate::store::entities::commands::{
    approval, command, command_report, idempotency_record, job, output_blob, output_chunk, rollout,
};
use crate::store::entities::fleet::agent_event::Column::Id as EventId;
use crate::store::entities::fleet::telemetry_sample::Column::At as TelemetryAt;
use crate::store::entities::fleet::{agent, agent_event, telemetry_sample};
use crate::store::entities::integrations::delivery::Column::Id as WebhookDeliveryId;
use crate::store::entities::integrations::{alert, delivery};
use crate::store::entities::schedules::fire::Column::Id as FireId;
use crate::store::entities::schedules::{fire, hook_delivery};

/// Rows of one kind in a slice.
const SLICE_ROWS: u64 = 500;
/// Period that a slice of rows without ids covers.
const SLICE_MS: u64 = 60_000;

/// Instants before which rows are deleted.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub telemetry_before: Timestamp,
    pub idempotency_before: Timestamp,
    pub history_before: Timestamp,
    pub deliveries_before: Timestamp,
}

/// What is deleted of one tenant, whose plan keeps history for a shorter time than the server.
#[derive(Debug, Clone, Copy)]
pub struct TenantRetention {
    pub tenant_id: TenantId,
    pub history_before: Timestamp,
    pub deliveries_before: Timestamp,
    /// Deliveries to hooks: without its row, a delivery that is sent again is a new one.
    pub hook_deliveries_before: Timestamp,
}

/// The result of a slice.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub may_have_more: bool,
    /// Files that no row references after the commit.
    pub files: Vec<BlobName>,
}

/// Deletes a slice of each kind.
pub(super) async fn drop_slice(
    transaction: &DatabaseTransaction,
    retention: Retention,
) -> Result<Dropped, StoreError> {
    let telemetry = drop_by_time::<telemetry_sample::Entity>(
        transaction,
        TelemetryAt,
        retention.telemetry_before,
    );
    let telemetry = telemetry.await?;
    let records = drop_by_time::<idempotency_record::Entity>(
        transaction,
        RecordCreatedAt,
        retention.idempotency_before,
    );
    let records = records.await?;
    let old = agent_event::Entity::find();
    let before = (retention.history_before, retention.history_before);
    let history = drop_history(transaction, None, old, before).await?;
    let deliveries = drop_deliveries(transaction, None, retention.deliveries_before).await?;
    let may_have_more = telemetry || records || history.may_have_more || deliveries;
    Ok(Dropped { may_have_more, ..history })
}

/// Deletes a slice of each kind of one tenant.
pub(super) async fn drop_slice_of_tenant(
    transaction: &DatabaseTransaction,
    retention: TenantRetention,
) -> Result<Dropped, StoreError> {
    let TenantRetention { tenant_id, history_before, deliveries_before, hook_deliveries_before } =
        retention;
    let events = agent_event::Entity::find()
        .filter(agent_event::Column::AgentId.in_subquery(agents_of(tenant_id)));
    let before = (history_before, hook_deliveries_before);
    let history = drop_history(transaction, Some(tenant_id), events, before).await?;
    let deliveries = drop_deliveries(transaction, Some(tenant_id), deliveries_before).await?;
    Ok(Dropped { may_have_more: history.may_have_more || deliveries, ..history })
}

/// The agents of a tenant, by which its events are found.
fn agents_of(tenant_id: TenantId) -> SelectStatement {
    Query::select()
        .column(agent::Column::Id)
        .from(agent::Entity)
        .and_where(Expr::col((agent::Entity, agent::Column::TenantId)).eq(tenant_id))
        .take()
}

/// A slice of agent events, commands and jobs, of all tenants or of one.
async fn drop_history(
    transaction: &DatabaseTransaction,
    of: Option<TenantId>,
    events: Select<agent_event::Entity>,
    (before, hook_deliveries_before): (Timestamp, Timestamp),
) -> Result<Dropped, StoreError> {
    let first_kept = first_id_at(before);
    let ids = ids_of(transaction, EventId, events.filter(EventId.lt(first_kept))).await?;
    let events = drop_by_id::<agent_event::Entity>(transaction, EventId, ids).await?;
    let commands = drop_commands(transaction, of, before).await?;
    let jobs = drop_jobs(transaction, of, first_kept).await?;
    let fires = drop_fires(transaction, of, first_kept).await?;
    let first_kept_delivery = first_id_at(hook_deliveries_before);
    let deliveries = drop_hook_deliveries(transaction, of, first_kept_delivery).await?;
    let approvals = drop_approvals(transaction, of, first_kept).await?;
    let alerts = drop_alerts(transaction, of, first_kept).await?;
    let may_have_more =
        events || commands.may_have_more || jobs || fires || deliveries || approvals || alerts;
    Ok(Dropped { may_have_more, ..commands })
}

/// A job that has not ended, with the id in this column.
fn open_job<Of: EntityTrait>(of: Of, id: Of::Column) -> SelectStatement {
    Query::select()
        .expr(Expr::val(1))
        .from(job::Entity)
        .and_where(Expr::col((job::Entity, job::Column::Id)).equals((of, id)))
        .and_where(Expr::col((job::Entity, job::Column::FinishedAt)).is_null())
        .take()
}

/// A slice of fires that never will have a job, or whose job has ended: an open one keeps others from starting.
async fn drop_fires(
    transaction: &DatabaseTransaction,
    of: Option<TenantId>,
    before: Uuid,
) -> Result<bool, StoreError> {
    let mut old =
        fire::Entity::find().filter(FireId.lt(before)).filter(fire::Column::LookAt.is_null());
    old = old.filter(Expr::not_exists(open_job(fire::Entity, fire::Column::JobId)));
    if let Some(tenant_id) = of {
        old = old.filter(fire::Column::TenantId.eq(tenant_id));
    }
    let ids = ids_of(transaction, FireId, old).await?;
    drop_by_id::<fire::Entity>(transaction, FireId, ids).await
}

/// A slice of deliveries to hooks whose job has ended.
async fn drop_hook_deliveries(
    transaction: &DatabaseTransaction,
    of: Option<TenantId>,
    before: Uuid,
) -> Result<bool, StoreError> {
    let mut old = hook_delivery::Entity::find()
        .filter(hook_delivery::Column::Id.lt(before))
        .filter(Expr::not_exists(open_job(hook_delivery::Entity, hook_delivery::Column::JobId)));
    if let Some(tenant_id) = of {
        old = old.filter(hook_delivery::Column::TenantId.eq(tenant_id));
    }
    let ids = ids_of(transaction, hook_delivery::Column::Id, old).await?;
    drop_by_id::<hook_delivery::Entity>(transaction, hook_delivery::Column::Id, ids).await
}

/// A slice of alerts that are resolved.
async fn drop_alerts(
    transaction: &DatabaseTransaction,
    of: Option<TenantId>,
    before: Uuid,
) -> Result<bool, StoreError> {
    let mut old = alert::Entity::find()
        .filter(alert::Column::Id.lt(before))
        .filter(alert::Column::ResolvedAt.is_not_null());
    if let Some(tenant_id) = of {
        old = old.filter(alert::Column::TenantId.eq(tenant_id));
    }
    let ids = ids_of(transaction, alert::Column::Id, old).await?;
    drop_by_id::<alert::Entity>(transaction, alert::Column::Id, ids).await
}

/// A slice of requests for approval that have ended, and whose job has.
async fn drop_approvals(
    transaction: &DatabaseTransaction,
    of: Option<TenantId>,
    before: Uuid,
) -> Result<bool, StoreError> {
    let mut old = approval::Entity::find()
        .filter(approval::Column::Id.lt(before))
        .filter(approval::Column::State.ne(ApprovalState::Pending))
        .filter(Expr::not_exists(open_job(approval::Entity, approval::Column::JobId)));
    if let Some(tenant_id) = of {
        old = old.filter(approval::Column::TenantId.eq(tenant_id));
    }
    let ids = ids_of(transaction, approval::Column::Id, old).await?;
    drop_by_id::<approval::Entity>(transaction, approval::Column::Id, ids).await
}

/// A slice of finished deliveries.
async fn drop_deliveries(
    transaction: &DatabaseTransaction,
    of: Option<TenantId>,
    before: Timestamp,
) -> Result<bool, StoreError> {
    let mut old = delivery::Entity::find()
        .filter(WebhookDeliveryId.lt(first_id_at(before)))
        .filter(delivery::Column::FinishedAt.is_not_null());
    if let Some(tenant_id) = of {
        old = old.filter(delivery::Column::TenantId.eq(tenant_id));
    }
    let ids = ids_of(transaction, WebhookDeliveryId, old).await?;
    drop_by_id::<delivery::Entity>(transaction, WebhookDeliveryId, ids).await
}

/// Deletes the oldest minute of rows before an instant, in a table whose rows have no id. True if
/// there may be more.
async fn drop_by_time<E: EntityTrait>(
    transaction: &DatabaseTransaction,
    at: E::Column,
    before: Timestamp,
) -> Result<bool, StoreError> {
    let oldest: Option<Timestamp> = E::find()
        .select_only()
        .column(at)
        .order_by_asc(at)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    let Some(oldest) = oldest.filter(|at| *at < before) else { return Ok(false) };
    E::delete_many()
        .filter(at.lt(std::cmp::min(before, oldest.plus_ms(SLICE_MS))))
        .exec(transaction)
        .await?;
    Ok(true)
}

/// The ids of the oldest rows.
async fn ids_of<E: EntityTrait>(
    transaction: &DatabaseTransaction,
    id: E::Column,
    old: Select<E>,
) -> Result<Vec<Uuid>, StoreError> {
    let slice = old.select_only().column(id).order_by_asc(id).limit(SLICE_ROWS);
    Ok(slice.into_tuple().all(transaction).await?)
}

/// Deletes the rows of a slice. True if there may be more.
async fn drop_by_id<E: EntityTrait>(
    transaction: &DatabaseTransaction,
    id: E::Column,
    ids: Vec<Uuid>,
) -> Result<bool, StoreError> {
    let is_full = ids.len() as u64 == SLICE_ROWS;
    if !ids.is_empty() {
        E::delete_many().filter(id.is_in(ids)).exec(transaction).await?;
    }
    Ok(is_full)
}

/// Commands that ended before an instant, with their reports and output. Commands of a job stay
/// until the job ended before that instant, because they hold its result.
async fn drop_commands(
    transaction: &DatabaseTransaction,
    of: Option<TenantId>,
    before: Timestamp,
) -> Result<Dropped, StoreError> {
    let mut old = command::Entity::find()
        .filter(command::Column::Id.lt(first_id_at(before)))
        .filter(command::Column::FinishedAt.lt(before))
        .filter(Expr::not_exists(young_job(before)));
    if let Some(tenant_id) = of {
        // By the index of a tenant's history, instead of reading the young commands of all tenants.
        let is_own = command::Column::TenantId.eq(tenant_id);
        old = old.filter(is_own).filter(Expr::cust("is_indexed"));
    }
    let ids = ids_of(transaction, command::Column::Id, old).await?;
    let ids: Vec<_> = ids.into_iter().map(CommandId).collect();
    let may_have_more = ids.len() as u64 == SLICE_ROWS;
    if ids.is_empty() {
        return Ok(Dropped::default());
    }
    let files = delete_commands(transaction, ids).await?;
    Ok(Dropped { may_have_more, files })
}

/// Deletes commands with their reports and output. Returns the files that no row references after the
/// commit.
pub(in crate::store::queries) async fn delete_commands(
    transaction: &DatabaseTransaction,
    ids: Vec<CommandId>,
) -> Result<Vec<BlobName>, StoreError> {
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
    Ok(files)
}

/// The job of a command, if it has not ended before an instant.
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

/// The files that rows of these commands reference.
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
        .column(output_blob::Column::Revision)
        .filter(output_blob::Column::CommandId.is_in(ids.iter().copied()))
        .into_tuple()
        .all(transaction)
        .await?;
    let blobs = blobs.into_iter().map(|(id, revision)| BlobName::Compacted(id, revision));
    Ok(live.into_iter().map(BlobName::Live).chain(blobs).collect())
}

/// Jobs before an id without remaining executions.
async fn drop_jobs(
    transaction: &DatabaseTransaction,
    of: Option<TenantId>,
    before: Uuid,
) -> Result<bool, StoreError> {
    let executions = Query::select()
        .expr(Expr::val(1))
        .from(command::Entity)
        .and_where(
            Expr::col((command::Entity, command::Column::JobId))
                .equals((job::Entity, job::Column::Id)),
        )
        .take();
    let mut old = job::Entity::find()
        .filter(job::Column::Id.lt(before))
        .filter(Expr::exists(executions).not());
    if let Some(tenant_id) = of {
        old = old.filter(job::Column::TenantId.eq(tenant_id));
    }
    let ids = ids_of(transaction, job::Column::Id, old).await?;
    drop_by_id::<rollout::Entity>(transaction, rollout::Column::JobId, ids.clone()).await?;
    drop_by_id::<job::Entity>(transaction, job::Column::Id, ids).await
}
