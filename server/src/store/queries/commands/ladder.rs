//! The ladder of a tenant.

use sea_orm::{EntityTrait as _, IntoActiveModel as _};

use crate::domain::commands::ladder::Ladder;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::ladder;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

impl TenantScope {
    /// The ladder; an empty one if the tenant has none.
    pub async fn ladder(&self) -> Result<Ladder, StoreError> {
        let row = ladder::Entity::find_by_id(self.tenant_id).all(&self.reader).await?.pop();
        Ok(row.map(|row| row.steps.0).unwrap_or_default())
    }

    /// Replaces the ladder.
    pub async fn set_ladder(
        &self,
        row: ladder::Model,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        let row = ladder::Model { tenant_id: self.tenant_id, ..row };
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    ladder::Entity::delete_by_id(row.tenant_id).exec(transaction).await?;
                    ladder::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }
}
