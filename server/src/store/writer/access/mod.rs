//! Audit entries of actions that change no other row, such as transient commands.

use sea_orm::{DatabaseTransaction, DbErr, IntoActiveModel as _};

use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::writer::connection::WriteTx;
use crate::store::writer::{BatchOperation, rows};

/// Adds one entry.
pub struct AppendAudit(pub audit_entry::Model);

impl BatchOperation for AppendAudit {
    type Done = ();

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let transaction = tx.transaction;
        insert_audit(transaction, operations.iter().map(|operation| operation.0.clone()).collect())
            .await?;
        Ok(operations.iter().map(|_| Ok(())).collect())
    }
}

/// Adds entries in the transaction of the changes that they record.
pub(in crate::store::writer) async fn insert_audit(
    transaction: &DatabaseTransaction,
    entries: Vec<audit_entry::Model>,
) -> Result<(), DbErr> {
    let rows = entries.into_iter().map(audit_entry::Model::into_active_model).collect();
    rows::insert(transaction, rows, None).await
}
