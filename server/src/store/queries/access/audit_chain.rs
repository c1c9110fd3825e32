//! The hash chain of a tenant's audit log.

use muster_protocol::audit::AuditLink;
use muster_protocol::identity::AgentKeyPair;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::store::StoreError;
use crate::store::entities::access::{audit_head, audit_link};
use crate::store::queries::TenantScope;

impl TenantScope {
    /// The last link; `None` while the log is empty.
    pub async fn audit_head(&self) -> Result<Option<audit_head::Model>, StoreError> {
        let query = audit_head::Entity::find_by_id(self.tenant_id);
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Links behind a number, up to another one, oldest first.
    pub async fn audit_links(
        &self,
        after: u64,
        until: u64,
        limit: u64,
    ) -> Result<Vec<AuditLink>, StoreError> {
        let rows = audit_link::Entity::find()
            .filter(audit_link::Column::TenantId.eq(self.tenant_id))
            .filter(audit_link::Column::Number.gt(after.cast_signed()))
            .filter(audit_link::Column::Number.lte(until.cast_signed()))
            .order_by_asc(audit_link::Column::Number)
            .limit(limit)
            .all(&self.reader)
            .await?;
        Ok(rows.into_iter().map(AuditLink::from).collect())
    }

    /// The key that signs the log, once the server has it.
    pub fn audit_key(&self) -> Option<&AgentKeyPair> {
        self.writer.audit_key()
    }
}
