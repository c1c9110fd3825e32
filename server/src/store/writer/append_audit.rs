//! Audit entries of what changes no row: transient commands.

use sea_orm::{DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _};

use super::{MAX_ROWS, Merge};
use crate::store::StoreError;
use crate::store::entities::audit_entry;

/// Adds one entry.
pub struct AppendAudit(pub audit_entry::Model);

impl Merge for AppendAudit {
    type Done = ();

    async fn apply(
        transaction: &DatabaseTransaction,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        insert(transaction, operations.iter().map(|operation| operation.0.clone()).collect())
            .await?;
        Ok(operations.iter().map(|_| Ok(())).collect())
    }
}

/// Adds entries beside the changes they speak of.
pub(super) async fn insert(
    transaction: &DatabaseTransaction,
    entries: Vec<audit_entry::Model>,
) -> Result<(), DbErr> {
    for entries in entries.chunks(MAX_ROWS) {
        let rows = entries.iter().cloned().map(audit_entry::Model::into_active_model);
        audit_entry::Entity::insert_many(rows).exec_without_returning(transaction).await?;
    }
    Ok(())
}
