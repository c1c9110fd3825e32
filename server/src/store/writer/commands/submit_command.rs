//! Stores new durable commands, each with its audit entry and idempotency record.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{CommandId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{approval, command, idempotency_record};
use crate::store::requester::{invalid_requesters, limited_keys};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST};

/// Identifies repeated requests.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub key: String,
    /// Hash of the whole request.
    pub request_hash: [u8; 32],
}

/// Stores a command as `queued` or `delivered`.
pub struct SubmitCommand {
    pub row: command::Model,
    /// The epoch of the session that acquired a slot for it. The insert is then `delivered`, unless a
    /// newer session has started.
    pub deliver_in_epoch: Option<i64>,
    pub idempotency: Option<Idempotency>,
    pub audit: audit_entry::Model,
    /// The request for approval that a held command waits for.
    pub approval: Option<approval::Model>,
}

/// The result of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It is stored. `delivered`: the frame must be sent now.
    New { delivered: bool },
    /// The same request created this command before; no new one is stored.
    Repeated { command_id: CommandId },
    /// The idempotency key belongs to another request; no command is stored.
    KeyReused,
    /// The agent was just deleted; no command is stored.
    AgentGone,
    /// The API key was revoked after the request was authenticated; no command is stored.
    KeyInvalid,
}

pub(in crate::store::writer) type RecordKey = (TenantId, PrincipalId, String);

impl BatchOperation for SubmitCommand {
    type Done = Submitted;

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<Submitted, StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.row.agent_id)).await?;
        let keys = operations.iter().filter_map(|op| op.record_key().map(|(key, _)| key));
        let mut records = read_records(transaction, keys.collect()).await?;
        let requesters: BTreeSet<_> = operations.iter().map(|op| op.row.requested_by).collect();
        let now = operations.iter().map(|op| op.row.created_at).max().unwrap_or(Timestamp(0));
        let invalid = invalid_requesters(transaction, requesters.clone(), now).await?;
        // The limits of a key are checked when its command is sent, which the queue does.
        let limited = limited_keys(transaction, requesters).await?;
        let mut new = Vec::with_capacity(operations.len());
        let mut new_records = Vec::new();
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            if invalid.contains(&operation.row.requested_by) {
                results.push(Ok(Submitted::KeyInvalid));
                continue;
            }
            let keyed = operation.record_key();
            if let Some((key, hash)) = &keyed
                && let Some((known_hash, command_id)) = records.get(key)
            {
                results.push(Ok(if known_hash == hash {
                    Submitted::Repeated { command_id: *command_id }
                } else {
                    Submitted::KeyReused
                }));
                continue;
            }
            if !epochs.has(operation.row.agent_id) {
                results.push(Ok(Submitted::AgentGone));
                continue;
            }
            if let Some((key, hash)) = keyed {
                new_records.push(operation.record(&key, &hash));
                records.insert(key, (hash, operation.row.id));
            }
            let delivered = operation
                .deliver_in_epoch
                .filter(|_| !limited.contains_key(&operation.row.requested_by))
                .is_some_and(|epoch| epochs.check_open(operation.row.agent_id, epoch).is_ok());
            new.push((operation, delivered));
            results.push(Ok(Submitted::New { delivered }));
        }
        write(tx, new, new_records).await?;
        Ok(results)
    }
}

impl SubmitCommand {
    fn record_key(&self) -> Option<(RecordKey, Vec<u8>)> {
        let idempotency = self.idempotency.as_ref()?;
        let key = (self.row.tenant_id, self.row.requested_by, idempotency.key.clone());
        Some((key, idempotency.request_hash.to_vec()))
    }

    fn record(&self, key: &RecordKey, hash: &[u8]) -> idempotency_record::ActiveModel {
        idempotency_record::Model {
            tenant_id: key.0,
            principal_id: key.1,
            key: key.2.clone(),
            request_hash: hash.to_vec(),
            command_id: self.row.id,
            created_at: self.row.created_at,
        }
        .into_active_model()
    }

    fn command(&self, delivered: bool) -> command::ActiveModel {
        let mut row = self.row.clone();
        if delivered {
            row.state = CommandState::Delivered;
            row.delivered_at = Some(row.created_at);
        }
        row.into_active_model()
    }
}

/// Reads the records of some idempotency keys: the hash of each request, and what it created.
pub(in crate::store::writer) async fn read_records(
    transaction: &DatabaseTransaction,
    keys: Vec<RecordKey>,
) -> Result<HashMap<RecordKey, (Vec<u8>, CommandId)>, DbErr> {
    let mut records = HashMap::with_capacity(keys.len());
    for keys in keys.chunks(MAX_LIST) {
        let rows = idempotency_record::Entity::find()
            .filter(
                idempotency_record::Column::TenantId
                    .is_in(pad_to_power_of_two(keys.iter().map(|key| key.0))),
            )
            .filter(
                idempotency_record::Column::PrincipalId
                    .is_in(pad_to_power_of_two(keys.iter().map(|key| key.1))),
            )
            .filter(
                idempotency_record::Column::Key
                    .is_in(pad_to_power_of_two(keys.iter().map(|key| key.2.as_str()))),
            )
            .all(transaction)
            .await?;
        records.extend(rows.into_iter().map(|row| {
            ((row.tenant_id, row.principal_id, row.key), (row.request_hash, row.command_id))
        }));
    }
    Ok(records)
}

async fn write(
    tx: &WriteTx<'_>,
    new: Vec<(&SubmitCommand, bool)>,
    records: Vec<idempotency_record::ActiveModel>,
) -> Result<(), DbErr> {
    let commands = new.iter().map(|(operation, delivered)| operation.command(*delivered));
    rows::insert(tx.transaction, commands.collect(), None).await?;
    rows::insert(tx.transaction, records, None).await?;
    let approvals = new.iter().filter_map(|(operation, _)| operation.approval.clone());
    let approvals: Vec<_> = approvals.map(|approval| approval.into_active_model()).collect();
    if !approvals.is_empty() {
        let requested = new.iter().filter_map(|(operation, _)| operation.approval.as_ref());
        tx.outbox.append(requested.map(approval::Model::requested_event));
        rows::insert(tx.transaction, approvals, None).await?;
    }
    tx.audit.append(new.iter().map(|(operation, _)| operation.audit.clone()));
    Ok(())
}
