//! Refuses new executions of tenants that have reached their quota of history and output.

use std::time::Duration;

use moka::sync::Cache;

use super::CACHED_TENANTS;
use crate::domain::commands::work::WorkKind;
use crate::domain::ids::TenantId;
use crate::domain::operations::storage::quota::StorageQuota;
use crate::services::error::Result;
use crate::store::Store;

/// How long the quota of a tenant is cached.
const QUOTA_TIME_TO_LIVE: Duration = Duration::from_secs(1);

/// Quotas of tenants and what counts against them.
#[derive(Debug, Clone)]
pub(super) struct StorageQuotas {
    store: Store,
    cached: Cache<TenantId, StorageQuota>,
}

impl StorageQuotas {
    pub fn new(store: Store) -> Self {
        let cached =
            Cache::builder().max_capacity(CACHED_TENANTS).time_to_live(QUOTA_TIME_TO_LIVE).build();
        Self { store, cached }
    }

    /// Life-cycle commands write next to nothing, and an agent must stay manageable, so they are not refused.
    ///
    /// # Errors
    /// 409 `storage_quota_reached`.
    pub async fn check(&self, tenant_id: TenantId, kind: WorkKind<'_>) -> Result<()> {
        if !matches!(kind, WorkKind::Script(_) | WorkKind::AdHoc | WorkKind::Steps(_)) {
            return Ok(());
        }
        let quota = match self.cached.get(&tenant_id) {
            Some(known) => known,
            None => {
                let quota = self.store.tenant(tenant_id).storage_quota().await?;
                self.cached.insert(tenant_id, quota);
                quota
            }
        };
        Ok(quota.check()?)
    }
}
