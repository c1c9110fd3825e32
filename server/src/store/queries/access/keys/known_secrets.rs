//! Who has known which secrets of API keys. A secret is shown once, to the person who creates or rotates its key;
//! what is made with a secret is known to everybody who knows that secret.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
};

use super::key_lineage::made_by;
use crate::domain::access::credential::SecretHash;
use crate::domain::ids::{ApiKeyId, PrincipalId, SessionId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{api_key, api_key_secret};
use crate::store::entities::certificates::client_certificate;
use crate::store::writer::MAX_LIST;

/// Who creates or rotates a key, and so sees the new secret. `None` for the first key of a tenant.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::store::queries) struct SecretMaker {
    pub id: Option<PrincipalId>,
    /// The secret of a key.
    pub presented: Option<SecretHash>,
    /// The session of a member.
    pub session_id: Option<SessionId>,
}

/// Valid secrets that a principal knows.
#[derive(Debug, Clone, Default)]
pub(in crate::store::queries) struct KnownSecrets {
    /// Keys that it created, directly or through others, or whose present secret it knows.
    pub keys: Vec<api_key::Model>,
    /// Other keys, of which it knows only the secret before the last rotation.
    pub previous: Vec<ApiKeyId>,
}

/// Every secret that keys of a tenant have had.
pub(in crate::store::queries) async fn all_secrets(
    connection: &impl ConnectionTrait,
    tenant_id: TenantId,
) -> Result<Vec<api_key_secret::Model>, StoreError> {
    let query =
        api_key_secret::Entity::find().filter(api_key_secret::Column::TenantId.eq(tenant_id));
    Ok(query.all(connection).await?)
}

/// Adds the present secret of a key.
pub(in crate::store::queries) async fn record_secret(
    transaction: &DatabaseTransaction,
    row: &api_key::Model,
    maker: SecretMaker,
    now: Timestamp,
) -> Result<(), StoreError> {
    let secret = api_key_secret::Model {
        secret_hash: row.secret_hash.clone(),
        tenant_id: row.tenant_id,
        key_id: row.id,
        made_by: maker.id,
        made_with: maker.presented.map(|hash| hash.0.to_vec()),
        session_id: maker.session_id,
        created_at: now,
    };
    api_key_secret::Entity::insert(secret.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

/// Checks that a key which manages keys presented its present secret: a key is rotated because an
/// attacker may know the previous secret. `presented` is `None` for a member.
///
/// # Errors
/// [`StoreError::PreviousSecret`].
pub(in crate::store::queries) async fn check_present_secret(
    transaction: &DatabaseTransaction,
    presented: Option<SecretHash>,
) -> Result<(), StoreError> {
    let Some(hash) = presented else { return Ok(()) };
    let query = api_key::Entity::find().filter(api_key::Column::SecretHash.eq(hash.0.to_vec()));
    match query.all(transaction).await?.is_empty() {
        true => Err(StoreError::PreviousSecret),
        false => Ok(()),
    }
}

/// What a principal can use: the keys that it created, directly or through others, and the valid secrets
/// that it knows, because it made them, or made them with a secret that it knew. A key knows all secrets
/// that it has had. Keys that are revoked are left out, and so is the principal itself.
pub(in crate::store::queries) fn known_to(
    principal: PrincipalId,
    keys: Vec<api_key::Model>,
    secrets: &[api_key_secret::Model],
    now: Timestamp,
) -> KnownSecrets {
    let is_own = |secret: &api_key_secret::Model| {
        secret.made_by == Some(principal) || PrincipalId::from(secret.key_id) == principal
    };
    let known = closure(secrets, is_own);
    let created: BTreeSet<ApiKeyId> =
        made_by(keys.clone(), principal).into_iter().map(|key| key.id).collect();
    let others = keys.into_iter().filter(|key| PrincipalId::from(key.id) != principal);
    valid(others, &known, &created, now)
}

/// The valid secrets that were made in some sessions, or with secrets that were made there.
pub(in crate::store::queries) fn known_to_sessions(
    sessions: &BTreeSet<SessionId>,
    keys: Vec<api_key::Model>,
    secrets: &[api_key_secret::Model],
    now: Timestamp,
) -> KnownSecrets {
    let is_own =
        |secret: &api_key_secret::Model| secret.session_id.is_some_and(|id| sessions.contains(&id));
    let known = closure(secrets, is_own);
    valid(keys.into_iter(), &known, &BTreeSet::new(), now)
}

fn valid(
    keys: impl Iterator<Item = api_key::Model>,
    known: &BTreeSet<&[u8]>,
    created: &BTreeSet<ApiKeyId>,
    now: Timestamp,
) -> KnownSecrets {
    let mut found = KnownSecrets::default();
    for key in keys.filter(|key| key.revoked_at.is_none()) {
        let is_previous_valid = key.previous_valid_until.is_some_and(|until| until > now);
        let previous = key.previous_secret_hash.as_deref().filter(|_| is_previous_valid);
        if created.contains(&key.id) || known.contains(key.secret_hash.as_slice()) {
            found.keys.push(key);
        } else if previous.is_some_and(|hash| known.contains(hash)) {
            found.previous.push(key.id);
        }
    }
    found
}

/// Secrets and what was made with them, directly or through others; also those that have ended, because what
/// was made with them may be valid.
fn closure(
    secrets: &[api_key_secret::Model],
    is_own: impl Fn(&api_key_secret::Model) -> bool,
) -> BTreeSet<&[u8]> {
    let own = secrets.iter().filter(|secret| is_own(secret));
    let mut known: BTreeSet<&[u8]> = own.map(|secret| secret.secret_hash.as_slice()).collect();
    // Repeated until nothing is added, because the rows are in no order.
    loop {
        let made_with_known = |secret: &&api_key_secret::Model| {
            secret.made_with.as_deref().is_some_and(|hash| known.contains(hash))
        };
        let found: Vec<&[u8]> = secrets
            .iter()
            .filter(made_with_known)
            .map(|secret| secret.secret_hash.as_slice())
            .collect();
        let count = known.len();
        known.extend(found);
        if known.len() == count {
            return known;
        }
    }
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
        for ids in ids.chunks(MAX_LIST) {
            api_key::Entity::update_many()
                .col_expr(column, now.0.into())
                .filter(api_key::Column::Id.is_in(ids.iter().copied()))
                .filter(api_key::Column::RevokedAt.is_null())
                .exec(transaction)
                .await?;
        }
    }
    for ids in keys.chunks(MAX_LIST) {
        client_certificate::Entity::delete_many()
            .filter(client_certificate::Column::HolderId.is_in(ids.iter().map(|id| id.0)))
            .exec(transaction)
            .await?;
    }
    Ok(())
}
