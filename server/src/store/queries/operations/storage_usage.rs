//! Measurements of what is stored: taken by one server at a time, and kept in rows.

use std::collections::BTreeMap;

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseTransaction, DbBackend, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    Statement,
};
use uuid::Uuid;

use super::settings::put_setting;
use super::storage_walk::StorageWalk;
use crate::domain::access::tenants::tenant::TenantRecord;
use crate::domain::ids::TenantId;
use crate::domain::operations::storage::forecast::{DaySample, MAX_DAYS};
use crate::domain::operations::storage::usage::StorageUsage;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::tenant;
use crate::store::entities::column::StoredUsage;
use crate::store::entities::operations::{setting, storage_day, storage_usage};
use crate::store::queries::{SystemScope, TenantScope};

/// Until when a server has the measurement that it takes, as milliseconds.
const CLAIMED_UNTIL: &str = "storage_measurement_claimed_until";
/// A claim that ends later was made by a clock that was ahead: a day.
const LONGEST_CLAIM_MS: u64 = 24 * 3_600_000;
const DAY_MS: i64 = 24 * 3_600_000;
/// Tenants of one transaction.
const TENANTS_AT_ONCE: usize = 200;
/// The id under which the server as a whole is measured.
const SERVER: TenantId = TenantId(Uuid::nil());

/// What was measured of a tenant or of the server, with the samples of the last days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredStorage {
    pub measured_at: Timestamp,
    pub usage: StorageUsage,
    pub days: Vec<DaySample>,
}

/// A tenant and the sums of its measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantStorage {
    pub tenant: TenantRecord,
    pub total_bytes: u64,
    pub counted_bytes: u64,
}

impl TenantScope {
    /// What was measured of the tenant; `None` before the first measurement.
    pub async fn storage(&self) -> Result<Option<MeasuredStorage>, StoreError> {
        measured(&self.reader, self.tenant_id).await
    }
}

impl SystemScope {
    /// Takes over the next measurement until `until` if the last one is from `due` or before. False if it is
    /// not, or if another server has it.
    pub async fn claim_storage_measurement(
        &self,
        now: Timestamp,
        due: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    let row =
                        setting::Entity::find_by_id(CLAIMED_UNTIL).all(transaction).await?.pop();
                    let claimed = row.and_then(|row| row.value.try_into().ok());
                    let claimed =
                        claimed.map_or(Timestamp(0), |bytes| Timestamp(i64::from_be_bytes(bytes)));
                    let is_claimed = claimed > now && claimed <= now.plus_ms(LONGEST_CLAIM_MS);
                    let last = storage_usage::Entity::find_by_id(SERVER).all(transaction).await?;
                    // A measurement from the future was stored by a clock that was ahead.
                    let is_measured =
                        last.iter().any(|row| row.measured_at > due && row.measured_at <= now);
                    if is_claimed || is_measured {
                        return Ok(false);
                    }
                    put_setting(transaction, CLAIMED_UNTIL, until.0.to_be_bytes().to_vec()).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Measures what every tenant and the server store. `is_paced`: leaves most of the time to others.
    pub async fn measure_storage(
        &self,
        now: Timestamp,
        is_paced: bool,
    ) -> Result<BTreeMap<TenantId, StorageUsage>, StoreError> {
        StorageWalk { system: self, now, is_paced }.run().await
    }

    /// Stores a measurement and the samples of its day, and ends the claim. Samples that no forecast
    /// needs are deleted.
    pub async fn store_storage(
        &self,
        measured: BTreeMap<TenantId, StorageUsage>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let measured: Vec<_> = measured.into_iter().collect();
        for part in measured.chunks(TENANTS_AT_ONCE) {
            let part = part.to_vec();
            self.writer
                .change(move |transaction| {
                    let part = part.clone();
                    Box::pin(async move { store_part(transaction, part, now).await })
                })
                .await?;
        }
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    storage_usage::Entity::delete_many()
                        .filter(storage_usage::Column::MeasuredAt.lt(now))
                        .exec(transaction)
                        .await?;
                    storage_day::Entity::delete_many()
                        .filter(storage_day::Column::Day.lt(now.0 / DAY_MS - MAX_DAYS))
                        .exec(transaction)
                        .await?;
                    put_setting(transaction, CLAIMED_UNTIL, vec![0; 8]).await
                })
            })
            .await
    }

    /// What was measured of the server as a whole; `None` before the first measurement.
    pub async fn server_storage(&self) -> Result<Option<MeasuredStorage>, StoreError> {
        measured(&self.reader, SERVER).await
    }

    /// The tenants that store most, largest first.
    pub async fn largest_tenants(&self, limit: u64) -> Result<Vec<TenantStorage>, StoreError> {
        let rows: Vec<(TenantId, i64, i64)> = storage_usage::Entity::find()
            .select_only()
            .column(storage_usage::Column::TenantId)
            .column(storage_usage::Column::TotalBytes)
            .column(storage_usage::Column::CountedBytes)
            .filter(storage_usage::Column::TenantId.ne(SERVER))
            .order_by_desc(storage_usage::Column::TotalBytes)
            .limit(limit)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let mut largest = Vec::with_capacity(rows.len());
        for (id, total, counted) in rows {
            let found = tenant::Entity::find_by_id(id).all(&self.reader).await?.pop();
            largest.extend(found.map(|tenant| TenantStorage {
                tenant: tenant.into(),
                total_bytes: total.unsigned_abs(),
                counted_bytes: counted.unsigned_abs(),
            }));
        }
        Ok(largest)
    }

    /// How many tenants there are.
    pub async fn tenant_count(&self) -> Result<u64, StoreError> {
        Ok(tenant::Entity::find().count(&self.reader).await?)
    }

    /// Space of the database that deleted rows have left, which new rows use. `None` on PostgreSQL, which does
    /// not report it cheaply.
    pub async fn reusable_database_bytes(&self) -> Result<Option<u64>, StoreError> {
        if self.reader.get_database_backend() != DbBackend::Sqlite {
            return Ok(None);
        }
        let query = "SELECT freelist_count * page_size AS bytes FROM pragma_freelist_count, pragma_page_size";
        let statement = Statement::from_string(DbBackend::Sqlite, query);
        let row = self.reader.query_one_raw(statement).await?;
        let bytes: Option<i64> = row.map(|row| row.try_get("", "bytes")).transpose()?;
        Ok(bytes.map(i64::unsigned_abs))
    }
}

async fn measured(
    reader: &sea_orm::DatabaseConnection,
    tenant_id: TenantId,
) -> Result<Option<MeasuredStorage>, StoreError> {
    let row = storage_usage::Entity::find_by_id(tenant_id).all(reader).await?.pop();
    let Some(row) = row else { return Ok(None) };
    let days = storage_day::Entity::find()
        .filter(storage_day::Column::TenantId.eq(tenant_id))
        .order_by_asc(storage_day::Column::Day)
        .all(reader)
        .await?;
    let days = days.into_iter().map(DaySample::from).collect();
    Ok(Some(MeasuredStorage { measured_at: row.measured_at, usage: row.usage.0, days }))
}

async fn store_part(
    transaction: &DatabaseTransaction,
    part: Vec<(TenantId, StorageUsage)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    use storage_usage::Column::{CountedBytes, MeasuredAt, TenantId as Id, TotalBytes, Usage};
    for (tenant_id, usage) in part {
        // A tenant that was deleted meanwhile stays deleted.
        let exists = tenant_id == SERVER
            || tenant::Entity::find_by_id(tenant_id).count(transaction).await? > 0;
        if !exists {
            continue;
        }
        let total_bytes = i64::try_from(usage.total_bytes()).unwrap_or(i64::MAX);
        let counted_bytes = i64::try_from(usage.counted_bytes()).unwrap_or(i64::MAX);
        let day = storage_day::Model { tenant_id, day: now.0 / DAY_MS, total_bytes, counted_bytes };
        let usage = StoredUsage(usage);
        let row =
            storage_usage::Model { tenant_id, measured_at: now, total_bytes, counted_bytes, usage };
        let replace = OnConflict::column(Id)
            .update_columns([MeasuredAt, TotalBytes, CountedBytes, Usage])
            .to_owned();
        storage_usage::Entity::insert(row.into_active_model())
            .on_conflict(replace)
            .exec_without_returning(transaction)
            .await?;
        let replace =
            OnConflict::columns([storage_day::Column::TenantId, storage_day::Column::Day])
                .update_columns([
                    storage_day::Column::TotalBytes,
                    storage_day::Column::CountedBytes,
                ])
                .to_owned();
        storage_day::Entity::insert(day.into_active_model())
            .on_conflict(replace)
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}
