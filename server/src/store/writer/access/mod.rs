//! Audit entries of actions that change no other row, such as transient commands.

use std::collections::BTreeSet;

use sea_orm::{DatabaseTransaction, DbErr, IntoActiveModel as _};

use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::requester::{acting_key, invalid_keys};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::{BatchOperation, rows};

/// Adds one entry. [`StoreError::KeyInvalid`] if the API key of the action was revoked or expired
/// after the request was authenticated; nothing is stored then.
pub struct AppendAudit(pub audit_entry::Model);

impl BatchOperation for AppendAudit {
    type Done = ();

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let keys: BTreeSet<_> = operations.iter().filter_map(|op| acting_key(&op.0)).collect();
        let now = operations.iter().map(|op| op.0.at).max().unwrap_or(Timestamp(0));
        let invalid = invalid_keys(transaction, keys, now).await?;
        let is_valid = |op: &Self| !acting_key(&op.0).is_some_and(|key| invalid.contains(&key));
        let valid = operations.iter().filter(|op| is_valid(op)).map(|op| op.0.clone());
        insert_audit(transaction, valid.collect()).await?;
        let results = operations.iter().map(|op| match is_valid(op) {
            true => Ok(()),
            false => Err(StoreError::KeyInvalid),
        });
        Ok(results.collect())
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
