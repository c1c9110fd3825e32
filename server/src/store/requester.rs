//! Whether who asked for something is still valid when the writer gets to it.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr, UnionType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    QueryFilter as _, QuerySelect as _, QueryTrait as _,
};

use super::StoreError;
use super::entities::access::{api_key, audit_entry, member, user_session};
use super::entities::column::{StoredLimits, StringList};
use super::entities::commands::command;
use super::entities::fleet::agent;
use super::writer::add_audit;
use super::writer::rows::pad_to_power_of_two;
use crate::domain::access::keys::key_limits::KeyLimits;
use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::access::principal::{ActorKind, Role};
use crate::domain::commands::work::{WorkKind, may_be_sent};
use crate::domain::ids::{AgentId, CommandId, PrincipalId, SessionId};
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

/// Of those who asked for work, the keys with limits.
pub(super) async fn limited_keys(
    connection: &impl ConnectionTrait,
    ids: BTreeSet<PrincipalId>,
) -> Result<BTreeMap<PrincipalId, KeyLimits>, DbErr> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<PrincipalId> = pad_to_power_of_two(ids).into_iter().collect();
    let rows: Vec<(PrincipalId, StoredLimits)> = api_key::Entity::find()
        .select_only()
        .column(api_key::Column::Id)
        .column(api_key::Column::Limits)
        .filter(api_key::Column::Id.is_in(ids))
        .filter(api_key::Column::Limits.is_not_null())
        .into_tuple()
        .all(connection)
        .await?;
    Ok(rows.into_iter().map(|(id, limits)| (id, limits.0)).collect())
}

/// Of those who asked for work, the keys with their rights.
pub(super) async fn rights_of_keys(
    connection: &impl ConnectionTrait,
    ids: BTreeSet<PrincipalId>,
) -> Result<BTreeMap<PrincipalId, KeyRights>, DbErr> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let query = api_key::Entity::find().filter(api_key::Column::Id.is_in(pad_to_power_of_two(ids)));
    let rows = query.all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.rights())).collect())
}

/// A command that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutgoingWork {
    pub id: CommandId,
    pub requested_by: PrincipalId,
    pub agent_id: AgentId,
    pub command: String,
    pub script: Option<String>,
}

/// Of commands that are about to be sent, those that the scopes or the limits of their keys do not allow any
/// more. Keys and tags are read now: in a transaction of the writer this is exact. A member with fewer rights
/// is another member.
pub(super) async fn outside_limits(
    connection: &impl ConnectionTrait,
    commands: &[OutgoingWork],
) -> Result<BTreeSet<CommandId>, DbErr> {
    let requesters = commands.iter().map(|command| command.requested_by).collect();
    let rights = rights_of_keys(connection, requesters).await?;
    if rights.is_empty() {
        return Ok(BTreeSet::new());
    }
    let of_keys: Vec<_> = commands
        .iter()
        .filter_map(|command| Some((command, rights.get(&command.requested_by)?)))
        .collect();
    let limited = of_keys.iter().filter(|(_, rights)| !rights.limits.targets.is_empty());
    let agents: BTreeSet<AgentId> = limited.map(|(command, _)| command.agent_id).collect();
    let tags: Vec<(AgentId, StringList)> = match agents.is_empty() {
        true => Vec::new(),
        false => {
            agent::Entity::find()
                .select_only()
                .column(agent::Column::Id)
                .column(agent::Column::Tags)
                .filter(agent::Column::Id.is_in(pad_to_power_of_two(agents)))
                .into_tuple()
                .all(connection)
                .await?
        }
    };
    let tags: BTreeMap<AgentId, Vec<String>> =
        tags.into_iter().map(|(id, tags)| (id, tags.0)).collect();
    let is_outside = |(command, rights): &(&OutgoingWork, &KeyRights)| {
        let kind = WorkKind::of_command(&command.command, command.script.as_deref());
        let tags = tags.get(&command.agent_id).map_or(&[][..], Vec::as_slice);
        !may_be_sent(rights, kind, command.agent_id, tags)
    };
    Ok(of_keys.into_iter().filter(is_outside).map(|(command, _)| command.id).collect())
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

/// Adds the audit entry of a change in its transaction.
///
/// # Errors
/// [`StoreError::KeyInvalid`] if the API key that requested the change was revoked after the request
/// was authenticated. The change is rolled back then.
pub(super) async fn write_audit(
    transaction: &DatabaseTransaction,
    audit: audit_entry::Model,
) -> Result<(), StoreError> {
    check_actor(transaction, &audit).await?;
    add_audit(audit)
}
