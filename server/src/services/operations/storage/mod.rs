//! What tenants and the server store: measurements, quotas and forecasts. [`purges`] deletes old history.

mod purges;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::error_chain;
use tokio::sync::Notify;
use uuid::Uuid;

pub use self::purges::{MAX_PURGE_AGE_MS, PurgePreview};

use crate::adapters::release_files::ReleaseFiles;
use crate::domain::access::principal::Scope;
use crate::domain::ids::TenantId;
use crate::domain::operations::storage::forecast::{Capacity, DaySample, Forecast, forecast};
use crate::domain::operations::storage::purge::StoragePurge;
use crate::domain::operations::storage::quota::StorageQuota;
use crate::domain::operations::storage::usage::{CauseUsage, StorageCause, StorageUsage};
use crate::domain::time::{Clock, Timestamp};
use crate::services::access::caller::Caller;
use crate::services::error::Result;
use crate::store::queries::{MeasuredStorage, TenantStorage};
use crate::store::{Store, StoreError};

/// How long a server has the next measurement. A measurement that takes longer is stored too, and another server
/// may take one meanwhile.
const CLAIM_MS: u64 = 3_600_000;
/// Most tenants that a report names.
const MAX_TENANTS: u64 = 100;

/// Use cases of storage.
#[derive(Clone, Debug)]
pub struct Storage {
    store: Store,
    clock: Clock,
    releases: Arc<ReleaseFiles>,
    measure_every_ms: u64,
    /// A person asked this server for a purge.
    purge_requested: Arc<Notify>,
}

/// What a tenant stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageReport {
    /// `None` before the first measurement.
    pub measured_at: Option<Timestamp>,
    pub usage: StorageUsage,
    pub quota: StorageQuota,
    pub forecast: Forecast,
    /// The last request to delete old history.
    pub purge: Option<StoragePurge>,
    /// For the operator, and for the tenant of a server that has one.
    pub server: Option<ServerStorage>,
}

/// What the server as a whole stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStorage {
    pub measured_at: Option<Timestamp>,
    pub usage: StorageUsage,
    pub forecast: Forecast,
    pub database_bytes: u64,
    /// Of these, space of deleted rows that new rows use. `None` on PostgreSQL.
    pub reusable_database_bytes: Option<u64>,
    pub disk_free_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    /// The tenants that store most.
    pub tenants: Vec<TenantStorage>,
}

impl Storage {
    /// Measures the data of a store.
    pub fn new(
        store: Store,
        clock: Clock,
        releases: Arc<ReleaseFiles>,
        measure_every_ms: u64,
    ) -> Self {
        Self { store, clock, releases, measure_every_ms, purge_requested: Arc::default() }
    }

    /// What the caller's tenant stores, and for the operator what the server does.
    ///
    /// # Errors
    /// 403 without the scope `commands:read`.
    pub async fn report(&self, caller: &Caller) -> Result<StorageReport> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let measured = tenant.storage().await?;
        let (measured_at, usage, days) = parts(measured);
        let quota = tenant.storage_quota().await?;
        let counted_bytes = usage.counted_bytes();
        let capacity =
            Capacity { disk_free_bytes: None, quota_limit_bytes: quota.limit_bytes, counted_bytes };
        let outcome = forecast(&days, capacity);
        let forecast = Forecast { outcome, largest_writer: usage.largest_writer() };
        let is_operator = caller.principal.may(Scope::TenantsManage);
        let server = match is_operator || self.store.system().tenant_count().await? == 1 {
            true => Some(self.server().await?),
            false => None,
        };
        let quota = StorageQuota { counted_bytes, ..quota };
        let purge = tenant.storage_purge().await?;
        Ok(StorageReport { measured_at, usage, quota, forecast, purge, server })
    }

    /// What the server as a whole stores.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn server(&self) -> std::result::Result<ServerStorage, StoreError> {
        let system = self.store.system();
        let (measured_at, usage, days) = parts(system.server_storage().await?);
        let disk_free_bytes = self.store.free_bytes();
        let outcome = forecast(&days, Capacity { disk_free_bytes, ..Capacity::default() });
        Ok(ServerStorage {
            measured_at,
            forecast: Forecast { outcome, largest_writer: usage.largest_writer() },
            usage,
            database_bytes: system.database_bytes().await?,
            reusable_database_bytes: system.reusable_database_bytes().await?,
            disk_free_bytes,
            disk_bytes: self.store.disk_bytes(),
            tenants: system.largest_tenants(MAX_TENANTS).await?,
        })
    }

    /// Measures if it is due and no other server does.
    ///
    /// # Errors
    /// [`StoreError`]; the next call, or another server, measures once the claim has ended.
    pub async fn measure_due(&self) -> std::result::Result<(), StoreError> {
        let now = self.clock.now();
        let (due, until) = (now.minus_ms(self.measure_every_ms), now.plus_ms(CLAIM_MS));
        if self.store.system().claim_storage_measurement(now, due, until).await? {
            self.measure(true).await?;
        }
        Ok(())
    }

    /// Measures now. `is_paced`: leaves most of the time to others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn measure(&self, is_paced: bool) -> std::result::Result<(), StoreError> {
        let (system, started_at) = (self.store.system(), self.clock.now());
        let mut measured = system.measure_storage(started_at, is_paced).await?;
        self.add_releases(&mut measured).await;
        system.store_storage(measured, self.clock.now()).await
    }

    /// Pause between two measurements.
    pub fn measure_every(&self) -> Duration {
        Duration::from_millis(self.measure_every_ms)
    }

    async fn add_releases(&self, measured: &mut BTreeMap<TenantId, StorageUsage>) {
        let releases = Arc::clone(&self.releases);
        let file_bytes = match tokio::task::spawn_blocking(move || releases.stored_bytes()).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                let error = error_chain(&error);
                return tracing::warn!(error, "failed to read the size of releases");
            }
            Err(_) => return,
        };
        if file_bytes == 0 {
            return;
        }
        let cause = StorageCause::Releases;
        let found = CauseUsage { cause, row_count: 0, file_bytes, estimated_row_bytes: 0 };
        measured.entry(TenantId(Uuid::nil())).or_default().causes.push(found);
    }
}

type Parts = (Option<Timestamp>, StorageUsage, Vec<DaySample>);

fn parts(measured: Option<MeasuredStorage>) -> Parts {
    let at = measured.as_ref().map(|measured| measured.measured_at);
    let measured = measured.map(|measured| (measured.usage, measured.days));
    let (usage, days) = measured.unwrap_or_default();
    (at, usage, days)
}
