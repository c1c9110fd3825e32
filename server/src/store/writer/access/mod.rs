//! Audit entries of actions that change no other row, such as transient commands.

pub(in crate::store::writer) mod audit_chain;

use std::collections::BTreeSet;

use sea_orm::DbErr;

use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::requester::{acting_key, invalid_requesters, is_live_session};
use crate::store::writer::BatchOperation;
use crate::store::writer::connection::WriteTx;

/// Adds one entry. [`StoreError::KeyInvalid`] if the API key of the action was revoked or expired
/// after the request was authenticated, [`StoreError::SessionEnded`] if its session ended; nothing is
/// stored then.
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
        let invalid = invalid_requesters(transaction, keys, now).await?;
        let sessions: BTreeSet<_> = operations.iter().filter_map(|op| op.0.session_id).collect();
        let mut ended = BTreeSet::new();
        for session in sessions {
            if !is_live_session(transaction, session).await? {
                ended.insert(session);
            }
        }
        let check = |op: &Self| match (acting_key(&op.0), op.0.session_id) {
            (Some(key), _) if invalid.contains(&key) => Err(StoreError::KeyInvalid),
            (_, Some(session)) if ended.contains(&session) => Err(StoreError::SessionEnded),
            _ => Ok(()),
        };
        let valid = operations.iter().filter(|op| check(op).is_ok()).map(|op| op.0.clone());
        tx.audit.append(valid);
        let results = operations.iter().map(check);
        Ok(results.collect())
    }
}
