//! Which sessions of people end, and what ends with them.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};
use serde_json::json;
use uuid::Uuid;

use crate::domain::access::principal::ActorKind;
use crate::domain::ids::{ApiKeyId, AuditId, MemberId, SessionId, TenantId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, member, user_session};
use crate::store::queries::access::keys::key_lineage::all_keys;
use crate::store::queries::access::keys::known_secrets::end_secrets;
use crate::store::queries::access::keys::known_secrets::{all_secrets, known_to_sessions};

/// Why something ended together with a password.
pub(super) const PASSWORD_CHANGED: &str = "password_changed";

/// Which sessions of a person end.
#[derive(Debug, Clone, Copy)]
pub enum SessionsToEnd {
    One(SessionId),
    AllBut(SessionId),
    All,
}

pub(super) async fn members_of(
    connection: &impl ConnectionTrait,
    user_id: UserId,
) -> Result<Vec<MemberId>, StoreError> {
    let query = member::Entity::find()
        .select_only()
        .column(member::Column::Id)
        .filter(member::Column::UserId.eq(user_id));
    Ok(query.into_tuple().all(connection).await?)
}

pub(super) async fn sessions_to_end(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    which: SessionsToEnd,
) -> Result<Vec<SessionId>, StoreError> {
    let members = members_of(transaction, user_id).await?;
    let query = user_session::Entity::find()
        .select_only()
        .column(user_session::Column::Id)
        .filter(user_session::Column::MemberId.is_in(members))
        .filter(user_session::Column::RevokedAt.is_null());
    let query = match which {
        SessionsToEnd::One(id) => query.filter(user_session::Column::Id.eq(id)),
        SessionsToEnd::AllBut(id) => query.filter(user_session::Column::Id.ne(id)),
        SessionsToEnd::All => query,
    };
    Ok(query.into_tuple().all(transaction).await?)
}

pub(super) async fn end_one(
    transaction: &DatabaseTransaction,
    id: SessionId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    end_all(transaction, vec![id], now).await
}

pub(super) async fn end_all(
    transaction: &DatabaseTransaction,
    ids: Vec<SessionId>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let ended = user_session::Entity::update_many()
        .col_expr(user_session::Column::RevokedAt, now.0.into())
        .filter(user_session::Column::Id.is_in(ids))
        .filter(user_session::Column::RevokedAt.is_null())
        .exec(transaction)
        .await?;
    Ok(ended.rows_affected)
}

/// Ends the secrets of API keys that were made in some sessions. Returns the audit entries.
pub(super) async fn end_keys_of(
    transaction: &DatabaseTransaction,
    ids: &[SessionId],
    audit: &audit_entry::Model,
    reason: &'static str,
    now: Timestamp,
) -> Result<Vec<audit_entry::Model>, StoreError> {
    let tenants: BTreeSet<TenantId> = user_session::Entity::find()
        .select_only()
        .column(user_session::Column::TenantId)
        .filter(user_session::Column::Id.is_in(ids.iter().copied()))
        .into_tuple::<TenantId>()
        .all(transaction)
        .await?
        .into_iter()
        .collect();
    let sessions: BTreeSet<SessionId> = ids.iter().copied().collect();
    let mut entries = Vec::new();
    for tenant_id in tenants {
        let secrets = all_secrets(transaction, tenant_id).await?;
        let all = all_keys(transaction, tenant_id).await?;
        let known = known_to_sessions(&sessions, all, &secrets, now);
        let keys: Vec<ApiKeyId> = known.keys.iter().map(|key| key.id).collect();
        end_secrets(transaction, &keys, &known.previous, now).await?;
        for (action, ids) in [("api_key.revoke", keys), ("api_key.rotate", known.previous)] {
            let subject = |id: ApiKeyId| ("api_key", id.0);
            let entry = |id| entry_beside(audit, tenant_id, action, subject(id), reason);
            entries.extend(ids.into_iter().map(entry));
        }
    }
    Ok(entries)
}

/// An entry for what ends together with what another entry is about.
pub(super) fn entry_beside(
    audit: &audit_entry::Model,
    tenant_id: TenantId,
    action: &'static str,
    (subject_kind, subject_id): (&'static str, Uuid),
    reason: &'static str,
) -> audit_entry::Model {
    // A tenant learns nothing of the others of its member.
    let is_own = tenant_id == audit.tenant_id;
    audit_entry::Model {
        id: AuditId::new(),
        tenant_id,
        actor_kind: if is_own { audit.actor_kind } else { ActorKind::System },
        actor_id: audit.actor_id.filter(|_| is_own),
        session_id: audit.session_id.filter(|_| is_own),
        action: action.to_owned(),
        subject_kind: subject_kind.to_owned(),
        subject_id: Some(subject_id),
        detail: json!({"reason": reason}).to_string(),
        ..audit.clone()
    }
}
