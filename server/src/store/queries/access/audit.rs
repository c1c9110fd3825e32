//! The audit log of a tenant.

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::queries::TenantScope;

impl TenantScope {
    /// One page of entries, newest first, with one row more than the limit if there is one.
    pub async fn audit_entries(
        &self,
        page: PageRequest,
    ) -> Result<Vec<audit_entry::Model>, StoreError> {
        let mut query = audit_entry::Entity::find()
            .filter(audit_entry::Column::TenantId.eq(self.tenant_id))
            .order_by_desc(audit_entry::Column::Id)
            .limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(audit_entry::Column::Id.lt(before));
        }
        Ok(query.all(&self.reader).await?)
    }
}
