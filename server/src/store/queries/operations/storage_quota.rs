//! The quota of a tenant and what counts against it.

use sea_orm::{EntityTrait as _, QuerySelect as _};

use crate::domain::access::tenants::tenant::TenantRecord;
use crate::domain::operations::storage::quota::StorageQuota;
use crate::store::StoreError;
use crate::store::entities::access::tenant;
use crate::store::entities::operations::storage_usage;
use crate::store::queries::TenantScope;

impl TenantScope {
    /// The quota of the tenant, and what counted against it when it was measured.
    pub async fn storage_quota(&self) -> Result<StorageQuota, StoreError> {
        let found = tenant::Entity::find_by_id(self.tenant_id).all(&self.reader).await?.pop();
        let limit_bytes =
            found.map(TenantRecord::from).and_then(|tenant| tenant.storage_limit_bytes());
        if limit_bytes.is_none() {
            return Ok(StorageQuota::default());
        }
        let counted: Vec<i64> = storage_usage::Entity::find_by_id(self.tenant_id)
            .select_only()
            .column(storage_usage::Column::CountedBytes)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let counted_bytes = counted.first().map_or(0, |bytes| bytes.unsigned_abs());
        Ok(StorageQuota { limit_bytes, counted_bytes })
    }
}
