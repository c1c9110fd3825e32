//! Revokes API keys, and stops what they requested.

use std::collections::BTreeSet;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, QuerySelect as _,
};
use serde_json::json;

use crate::domain::access::credential::SecretHash;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::JobState;
use crate::domain::ids::{ApiKeyId, AuditId, CommandId, GroupId, JobId, TenantId};
use crate::domain::releases::group::GroupState;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::{api_key, audit_entry};
use crate::store::entities::commands::{command, job, rollout};
use crate::store::entities::releases::group;
use crate::store::queries::TenantScope;
use crate::store::queries::access::keys::key_lineage::{all_keys, check_last_publisher};
use crate::store::queries::access::keys::known_secrets::{
    KnownSecrets, all_secrets, check_present_secret, known_to,
};
use crate::store::queries::commands::rollouts::actions::pause;
use crate::store::requester::check_actor;
use crate::store::writer::add_audit;

/// Rows of one statement.
const ROWS: usize = 500;

/// What a revocation includes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RevocationScope {
    /// Also the keys that the key created, directly or through others, and every secret that its holder
    /// knows.
    pub is_cascade: bool,
    /// Also cancel what the keys queued, and pause their rollouts and groups.
    pub cancels_queued: bool,
}

/// What was revoked and stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocation {
    pub keys: Vec<ApiKeyId>,
    /// Keys that stay valid, and whose previous secret ended.
    pub previous_secrets: Vec<ApiKeyId>,
    /// Queued commands that have ended, with their jobs.
    pub cancelled: Vec<(CommandId, Option<JobId>)>,
    /// Jobs whose rollouts were paused.
    pub paused_jobs: Vec<JobId>,
    pub paused_groups: Vec<GroupId>,
}

impl TenantScope {
    /// Revokes a key; `None` if the tenant has no such key that is not revoked. `audit` is the entry
    /// of the key; each further key gets its own. `presented`: the secret of the key that asks.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if no remaining key could publish releases and create keys as long as
    /// the revoked ones: the right to publish could never be granted again.
    pub async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        scope: RevocationScope,
        presented: Option<SecretHash>,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<Revocation>, StoreError> {
        let tenant_id = self.tenant_id;
        let revocation = self
            .writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    // Before the update: a key may revoke itself.
                    check_actor(transaction, &audit).await?;
                    check_present_secret(transaction, presented).await?;
                    let KnownSecrets { keys, previous } =
                        keys_to_revoke(transaction, tenant_id, id, scope, now).await?;
                    if keys.is_empty() {
                        return Ok(None);
                    }
                    check_last_publisher(transaction, &keys, now).await?;
                    let ids: Vec<ApiKeyId> = keys.iter().map(|key| key.id).collect();
                    end_secrets(transaction, &ids, &previous, now).await?;
                    let mut revocation = Revocation {
                        keys: ids,
                        previous_secrets: previous,
                        ..Revocation::default()
                    };
                    if scope.cancels_queued {
                        stop_work(transaction, tenant_id, &mut revocation, now).await?;
                    }
                    for entry in audit_entries(audit, id, &revocation) {
                        add_audit(entry)?;
                    }
                    Ok(Some(revocation))
                })
            })
            .await?;
        let ended = revocation.as_ref().map_or(0, |revocation| revocation.cancelled.len());
        self.writer.metrics().ended(CommandState::Cancelled.as_str(), ended as u64);
        Ok(revocation)
    }

    /// Every key that a cascade revokes with a key.
    pub async fn keys_known_to_api_key(
        &self,
        id: ApiKeyId,
        now: Timestamp,
    ) -> Result<Vec<api_key::Model>, StoreError> {
        let query = api_key::Entity::find().filter(api_key::Column::TenantId.eq(self.tenant_id));
        let secrets = all_secrets(&self.reader, self.tenant_id).await?;
        Ok(known_to(id.into(), query.all(&self.reader).await?, &secrets, now).keys)
    }
}

async fn keys_to_revoke(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    id: ApiKeyId,
    scope: RevocationScope,
    now: Timestamp,
) -> Result<KnownSecrets, StoreError> {
    let all = all_keys(transaction, tenant_id).await?;
    let known = all.iter().find(|key| key.id == id && key.revoked_at.is_none()).cloned();
    let Some(key) = known else { return Ok(KnownSecrets::default()) };
    if !scope.is_cascade {
        return Ok(KnownSecrets { keys: vec![key], previous: Vec::new() });
    }
    let secrets = all_secrets(transaction, tenant_id).await?;
    let mut known = known_to(id.into(), all, &secrets, now);
    known.keys.insert(0, key);
    Ok(known)
}

/// Revokes keys, and ends the previous secrets of others.
pub(in crate::store::queries) async fn end_secrets(
    transaction: &DatabaseTransaction,
    keys: &[ApiKeyId],
    previous: &[ApiKeyId],
    now: Timestamp,
) -> Result<(), StoreError> {
    for (ids, column) in
        [(keys, api_key::Column::RevokedAt), (previous, api_key::Column::PreviousValidUntil)]
    {
        for ids in ids.chunks(ROWS) {
            api_key::Entity::update_many()
                .col_expr(column, now.0.into())
                .filter(api_key::Column::Id.is_in(ids.iter().copied()))
                .filter(api_key::Column::RevokedAt.is_null())
                .exec(transaction)
                .await?;
        }
    }
    Ok(())
}

/// Cancels the queued commands of the keys. Rollouts and groups are paused instead, so that a person
/// can resume them with another key.
async fn stop_work(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    revocation: &mut Revocation,
    now: Timestamp,
) -> Result<(), StoreError> {
    let keys = revocation.keys.clone();
    let queued: Vec<(CommandId, Option<JobId>, Option<i32>)> = command::Entity::find()
        .select_only()
        .column(command::Column::Id)
        .column(command::Column::JobId)
        .column(command::Column::Wave)
        .filter(command::Column::TenantId.eq(tenant_id))
        .filter(command::Column::State.eq(CommandState::Queued))
        .filter(command::Column::RequestedBy.is_in(keys.iter().copied()))
        .into_tuple()
        .all(transaction)
        .await?;
    let in_rollout = |row: &&(CommandId, Option<JobId>, Option<i32>)| row.2.is_some();
    let jobs: BTreeSet<JobId> = queued.iter().filter(in_rollout).filter_map(|row| row.1).collect();
    for id in jobs.into_iter().chain(rollouts_of(transaction, tenant_id, &keys).await?) {
        let is_new = !revocation.paused_jobs.contains(&id);
        if is_new && is_running(transaction, id).await? {
            pause(transaction, id).await?;
            revocation.paused_jobs.push(id);
        }
    }
    let ended = queued.iter().filter(|row| row.2.is_none()).map(|row| (row.0, row.1));
    revocation.cancelled = ended.collect();
    for ended in revocation.cancelled.chunks(ROWS) {
        end_of(CommandState::Cancelled, now)
            .col_expr(command::Column::EndReason, EndReason::CancelledInQueue.as_str().into())
            .col_expr(command::Column::CancelRequestedAt, now.0.into())
            .filter(command::Column::Id.is_in(ended.iter().map(|(id, _)| *id)))
            .exec(transaction)
            .await?;
    }
    let groups = group::Entity::find()
        .filter(group::Column::TenantId.eq(tenant_id))
        .filter(group::Column::State.eq(GroupState::Active))
        .filter(group::Column::DesiredVersion.is_not_null())
        .filter(group::Column::RequestedBy.is_in(keys))
        .all(transaction)
        .await?;
    for row in groups {
        let changed_at = now.max(row.changed_at.plus_ms(1));
        group::Entity::update_many()
            .col_expr(group::Column::State, Expr::value(GroupState::Paused))
            .col_expr(group::Column::ChangedAt, changed_at.0.into())
            .filter(group::Column::Id.eq(row.id))
            .exec(transaction)
            .await?;
        revocation.paused_groups.push(row.id);
    }
    Ok(())
}

/// Open jobs of these keys that have a rollout.
async fn rollouts_of(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    keys: &[ApiKeyId],
) -> Result<Vec<JobId>, StoreError> {
    let open: Vec<JobId> = job::Entity::find()
        .select_only()
        .column(job::Column::Id)
        .filter(job::Column::TenantId.eq(tenant_id))
        .filter(job::Column::FinishedAt.is_null())
        .filter(job::Column::RequestedBy.is_in(keys.iter().copied()))
        .into_tuple()
        .all(transaction)
        .await?;
    let mut found = Vec::new();
    for ids in open.chunks(ROWS) {
        let rollouts: Vec<JobId> = rollout::Entity::find()
            .select_only()
            .column(rollout::Column::JobId)
            .filter(rollout::Column::JobId.is_in(ids.iter().copied()))
            .into_tuple()
            .all(transaction)
            .await?;
        found.extend(rollouts);
    }
    Ok(found)
}

async fn is_running(transaction: &DatabaseTransaction, id: JobId) -> Result<bool, StoreError> {
    let found = job::Entity::find_by_id(id)
        .filter(job::Column::State.eq(JobState::Running))
        .filter(job::Column::Stop.is_null())
        .filter(job::Column::FinishedAt.is_null())
        .one(transaction)
        .await?;
    Ok(found.is_some())
}

/// The entry of the revoked key says what was stopped; those of the other keys name it.
fn audit_entries(
    audit: audit_entry::Model,
    id: ApiKeyId,
    revocation: &Revocation,
) -> Vec<audit_entry::Model> {
    let detail = json!({
        "revoked_keys": revocation.keys.len(),
        "cancelled_commands": revocation.cancelled.len(),
        "paused_jobs": revocation.paused_jobs,
        "paused_groups": revocation.paused_groups,
    });
    let further = revocation.keys.iter().filter(|key| **key != id);
    let further = further.map(|key| audit_entry::Model {
        id: AuditId::new(),
        subject_id: Some(key.0),
        detail: json!({"revoked_with": id}).to_string(),
        ..audit.clone()
    });
    let mut entries: Vec<_> = further.collect();
    entries.extend(revocation.previous_secrets.iter().map(|key| audit_entry::Model {
        id: AuditId::new(),
        action: "api_key.rotate".to_owned(),
        subject_id: Some(key.0),
        detail: json!({"ended": "previous", "revoked_with": id}).to_string(),
        ..audit.clone()
    }));
    entries.push(audit_entry::Model { detail: detail.to_string(), ..audit });
    entries
}
