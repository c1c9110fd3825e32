//! Which keys created which, and what must hold between them: a key has at most the rights of the key
//! that created it, and the right to publish releases is never lost.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, EntityTrait as _, QueryFilter as _,
};

use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::access::principal::Scope;
use crate::domain::ids::{ApiKeyId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::api_key;

/// Every key of a tenant, with the revoked ones.
pub(in crate::store::queries) async fn all_keys(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
) -> Result<Vec<api_key::Model>, StoreError> {
    let query = api_key::Entity::find().filter(api_key::Column::TenantId.eq(tenant_id));
    Ok(query.all(transaction).await?)
}

/// The keys that a key created, directly or through others, and that are not revoked. A revoked key in
/// between does not end the line.
pub(in crate::store::queries) fn descendants(
    all: Vec<api_key::Model>,
    id: ApiKeyId,
) -> Vec<api_key::Model> {
    made_by(all, id.into()).into_iter().filter(|key| key.id != id).collect()
}

/// Every key that a key or a member created, directly or through others, and that is not revoked; with
/// the key itself.
pub(in crate::store::queries) fn made_by(
    all: Vec<api_key::Model>,
    maker: PrincipalId,
) -> Vec<api_key::Model> {
    let mut makers = BTreeSet::from([maker]);
    // Keys are created after their makers, and ids are in the order of creation within a process.
    // Repeated until nothing is added, because ids of one millisecond may be in any order.
    loop {
        let made_by_them =
            |key: &&api_key::Model| key.created_by.is_some_and(|maker| makers.contains(&maker));
        let found: Vec<PrincipalId> =
            all.iter().filter(made_by_them).map(|key| key.id.into()).collect();
        let known = makers.len();
        makers.extend(found);
        if makers.len() == known {
            break;
        }
    }
    let is_made = |key: &api_key::Model| makers.contains(&key.id.into());
    all.into_iter().filter(|key| is_made(key) && key.revoked_at.is_none()).collect()
}

/// The rights of a key, if this id names one of a tenant.
pub(in crate::store::queries) fn rights_of(
    all: &[api_key::Model],
    id: Option<PrincipalId>,
) -> Option<KeyRights> {
    let id = id?;
    all.iter().find(|key| PrincipalId::from(key.id) == id).map(api_key::Model::rights)
}

/// True if the key can publish releases now, and can grant that right.
fn is_publisher(row: &api_key::Model, now: Timestamp) -> bool {
    let is_valid = row.revoked_at.is_none() && row.expires_at.is_none_or(|at| at > now);
    let has = |scope: Scope| row.scopes.0.iter().any(|held| *held == scope.to_string());
    is_valid && has(Scope::ReleasesManage) && has(Scope::ApiKeysWrite)
}

/// True if a changed key publishes less, or less long.
pub(in crate::store::queries) fn publishes_less(
    known: &api_key::Model,
    changed: &api_key::Model,
    now: Timestamp,
) -> bool {
    let lasts_less = match (known.expires_at, changed.expires_at) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(known), Some(changed)) => changed < known,
    };
    is_publisher(known, now) && (lasts_less || !is_publisher(changed, now))
}

/// Refuses to revoke or weaken keys if none that remains, of any tenant, can publish as long as they
/// could. `ended`: the keys as they were.
///
/// # Errors
/// [`StoreError::Refused`].
pub(in crate::store::queries) async fn check_last_publisher(
    transaction: &DatabaseTransaction,
    ended: &[api_key::Model],
    now: Timestamp,
) -> Result<(), StoreError> {
    let publishers = ended.iter().filter(|key| is_publisher(key, now));
    let last = publishers.max_by_key(|key| (key.expires_at.is_none(), key.expires_at));
    let Some(last) = last else { return Ok(()) };
    let lasts = Condition::any().add(api_key::Column::ExpiresAt.is_null());
    let lasts = lasts.add_option(last.expires_at.map(|at| api_key::Column::ExpiresAt.gte(at)));
    let others = api_key::Entity::find()
        .filter(api_key::Column::RevokedAt.is_null())
        .filter(lasts)
        .all(transaction)
        .await?;
    let is_ended = |key: &api_key::Model| ended.iter().any(|other| other.id == key.id);
    if others.iter().any(|other| !is_ended(other) && is_publisher(other, now)) {
        return Ok(());
    }
    Err(StoreError::Refused("it is the last key that can publish releases"))
}
