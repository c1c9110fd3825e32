//! Whether who asked for something is still valid when the writer gets to it.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr, UnionType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _, QueryTrait as _,
};

use super::StoreError;
use super::entities::access::{api_key, audit_entry, member, user_session};
use super::entities::commands::command;
use super::writer::rows::pad_to_power_of_two;
use crate::domain::access::principal::{ActorKind, Role};
use crate::domain::ids::{PrincipalId, SessionId};
use crate::domain::time::Timestamp;

/// Matches keys that are revoked or have expired.
pub(super) fn is_invalid_key(now: Timestamp) -> Condition {
    Condition::any()
        .add(api_key::Column::RevokedAt.is_not_null())
        .add(api_key::Column::ExpiresAt.lte(now))
}

/// Matches members that are removed, or whose role runs nothing.
fn is_invalid_member() -> Condition {
    Condition::any()
        .add(member::Column::RemovedAt.is_not_null())
        .add(member::Column::Role.eq(Role::Auditor))
}

/// Of those who asked for work, the keys that are revoked or have expired, and the members that may not
/// run it any more. A member who signed out is still valid.
///
/// In a transaction of the writer this is exact: revocations go through the same writer, so a change
/// comes either before the revocation of who asked for it or is refused.
pub(super) async fn invalid_requesters(
    connection: &impl ConnectionTrait,
    ids: BTreeSet<PrincipalId>,
    now: Timestamp,
) -> Result<BTreeSet<PrincipalId>, DbErr> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let ids: Vec<PrincipalId> = pad_to_power_of_two(ids).into_iter().collect();
    let members = member::Entity::find()
        .select_only()
        .column(member::Column::Id)
        .filter(member::Column::Id.is_in(ids.iter().copied()))
        .filter(is_invalid_member());
    let mut query = api_key::Entity::find()
        .select_only()
        .column(api_key::Column::Id)
        .filter(api_key::Column::Id.is_in(ids))
        .filter(is_invalid_key(now));
    sea_orm::QuerySelect::query(&mut query).union(UnionType::All, members.into_query());
    let ids: Vec<PrincipalId> = query.into_tuple().all(connection).await?;
    Ok(ids.into_iter().collect())
}

/// The API key that requested the action of this entry, if one did.
pub(super) fn acting_key(audit: &audit_entry::Model) -> Option<PrincipalId> {
    match (audit.actor_kind, audit.actor_id) {
        (ActorKind::ApiKey, Some(id)) => Some(PrincipalId(id)),
        _ => None,
    }
}

/// Checks that the key, or the session and the member, which requested a change did not end after the
/// request was authenticated.
///
/// # Errors
/// [`StoreError::KeyInvalid`] or [`StoreError::SessionEnded`]; the change must not be stored then.
pub(super) async fn check_actor(
    connection: &impl ConnectionTrait,
    audit: &audit_entry::Model,
) -> Result<(), StoreError> {
    if let Some(key) = acting_key(audit) {
        return match invalid_requesters(connection, BTreeSet::from([key]), audit.at)
            .await?
            .is_empty()
        {
            true => Ok(()),
            false => Err(StoreError::KeyInvalid),
        };
    }
    match audit.session_id {
        Some(id) if !is_live_session(connection, id).await? => Err(StoreError::SessionEnded),
        _ => Ok(()),
    }
}

/// True for a session that is not revoked, of a member that is not removed. Its tokens expire by
/// themselves, and were checked with the request.
pub(super) async fn is_live_session(
    connection: &impl ConnectionTrait,
    id: SessionId,
) -> Result<bool, DbErr> {
    let member = Query::select()
        .column(member::Column::Id)
        .from(member::Entity)
        .and_where(
            Expr::col((member::Entity, member::Column::Id))
                .equals((user_session::Entity, user_session::Column::MemberId)),
        )
        .and_where(member::Column::RemovedAt.is_null())
        .take();
    let query = user_session::Entity::find_by_id(id)
        .filter(user_session::Column::RevokedAt.is_null())
        .filter(Expr::exists(member));
    Ok(!query.all(connection).await?.is_empty())
}

/// Matches commands whose requester is still valid, as in [`invalid_requesters`]. The writer checks it
/// in the transaction that marks them as delivered, so a command is never sent after its key was revoked
/// or its member removed.
pub(super) fn has_valid_requester(now: Timestamp) -> SimpleExpr {
    let requested_by = || Expr::col((command::Entity, command::Column::RequestedBy));
    let key = Query::select()
        .column(api_key::Column::Id)
        .from(api_key::Entity)
        .and_where(Expr::col((api_key::Entity, api_key::Column::Id)).eq(requested_by()))
        .cond_where(is_invalid_key(now))
        .take();
    let member = Query::select()
        .column(member::Column::Id)
        .from(member::Entity)
        .and_where(Expr::col((member::Entity, member::Column::Id)).eq(requested_by()))
        .cond_where(is_invalid_member())
        .take();
    Expr::exists(key).not().and(Expr::exists(member).not())
}
