//! Whether the API key of a request is still valid when the writer gets to it.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};

use super::StoreError;
use super::entities::access::{api_key, audit_entry};
use super::entities::commands::command;
use super::writer::rows::pad_to_power_of_two;
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::ApiKeyId;
use crate::domain::time::Timestamp;

/// Matches keys that are revoked or have expired.
pub(super) fn is_invalid_key(now: Timestamp) -> Condition {
    Condition::any()
        .add(api_key::Column::RevokedAt.is_not_null())
        .add(api_key::Column::ExpiresAt.lte(now))
}

/// Of some API keys, those that are revoked or have expired.
///
/// In a transaction of the writer this is exact: revocations go through the same writer, so a change
/// comes either before the revocation of its key or is refused.
pub(super) async fn invalid_keys(
    connection: &impl ConnectionTrait,
    ids: BTreeSet<ApiKeyId>,
    now: Timestamp,
) -> Result<BTreeSet<ApiKeyId>, DbErr> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let query = api_key::Entity::find()
        .select_only()
        .column(api_key::Column::Id)
        .filter(api_key::Column::Id.is_in(pad_to_power_of_two(ids)))
        .filter(is_invalid_key(now));
    let ids: Vec<ApiKeyId> = query.into_tuple().all(connection).await?;
    Ok(ids.into_iter().collect())
}

/// The API key that requested the action of this entry, if one did.
pub(super) fn acting_key(audit: &audit_entry::Model) -> Option<ApiKeyId> {
    match (audit.actor_kind, audit.actor_id) {
        (ActorKind::ApiKey, Some(id)) => Some(ApiKeyId(id)),
        _ => None,
    }
}

/// Checks that the key which requested a change was not revoked after the request was authenticated.
///
/// # Errors
/// [`StoreError::KeyInvalid`]; the change must not be stored then.
pub(super) async fn check_actor(
    connection: &impl ConnectionTrait,
    audit: &audit_entry::Model,
) -> Result<(), StoreError> {
    let Some(id) = acting_key(audit) else { return Ok(()) };
    let invalid = invalid_keys(connection, BTreeSet::from([id]), audit.at).await?;
    if invalid.is_empty() { Ok(()) } else { Err(StoreError::KeyInvalid) }
}

/// Matches commands whose requesting key is neither revoked nor expired. The writer checks it in the
/// transaction that marks them as delivered, so a command is never sent after its key was revoked.
pub(super) fn has_valid_requester(now: Timestamp) -> SimpleExpr {
    let requested_by = Expr::col((command::Entity, command::Column::RequestedBy));
    let invalid = Query::select()
        .column(api_key::Column::Id)
        .from(api_key::Entity)
        .and_where(Expr::col((api_key::Entity, api_key::Column::Id)).eq(requested_by))
        .cond_where(is_invalid_key(now))
        .take();
    Expr::exists(invalid).not()
}
