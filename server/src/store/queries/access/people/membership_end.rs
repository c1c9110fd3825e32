//! The end of a membership, with what the member made.

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
};

use super::invitations;
use crate::domain::access::principal::Role;
use crate::domain::ids::{ApiKeyId, MemberId, TenantId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{invitation, member, user, user_session};
use crate::store::entities::certificates::client_certificate;
use crate::store::queries::access::keys::key_lineage::all_keys;
use crate::store::queries::access::keys::known_secrets::end_secrets;
use crate::store::queries::access::keys::known_secrets::{all_secrets, known_to};

/// In a transaction of the writer this is exact: of two owners who remove each other at once, one is the
/// last when the writer gets to it.
pub(in crate::store::queries) async fn is_last_owner(
    transaction: &DatabaseTransaction,
    row: &member::Model,
) -> Result<bool, StoreError> {
    if row.role != Role::Owner {
        return Ok(false);
    }
    let others = member::Entity::find()
        .filter(member::Column::TenantId.eq(row.tenant_id))
        .filter(member::Column::Role.eq(Role::Owner))
        .filter(member::Column::RemovedAt.is_null())
        .filter(member::Column::Id.ne(row.id));
    Ok(others.count(transaction).await? == 0)
}

/// Ends the invitations for a member's own address: an older one could give its role back.
pub(in crate::store::queries) async fn end_invitations(
    transaction: &DatabaseTransaction,
    row: &member::Model,
    now: Timestamp,
) -> Result<(), StoreError> {
    let person = user::Entity::find_by_id(row.user_id).all(transaction).await?.pop();
    if let Some(person) = person {
        invitations::end_for(transaction, row.tenant_id, &person.email, now).await?;
    }
    Ok(())
}

/// Ends the membership of a person in a tenant, unless it is the last owner's. Returns its id.
pub(in crate::store::queries) async fn end_membership(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    user_id: UserId,
    now: Timestamp,
) -> Result<Option<MemberId>, StoreError> {
    let known = member::Entity::find()
        .filter(member::Column::TenantId.eq(tenant_id))
        .filter(member::Column::UserId.eq(user_id))
        .filter(member::Column::RemovedAt.is_null());
    let Some(known) = known.all(transaction).await?.pop() else { return Ok(None) };
    if is_last_owner(transaction, &known).await? {
        return Ok(None);
    }
    end_invitations(transaction, &known, now).await?;
    end(transaction, &known, now).await?;
    Ok(Some(known.id))
}

/// Ends a membership with its sessions, invitations and keys.
pub(in crate::store::queries) async fn end(
    transaction: &DatabaseTransaction,
    row: &member::Model,
    now: Timestamp,
) -> Result<(), StoreError> {
    member::Entity::update_many()
        .col_expr(member::Column::RemovedAt, now.0.into())
        .filter(member::Column::Id.eq(row.id))
        .exec(transaction)
        .await?;
    user_session::Entity::update_many()
        .col_expr(user_session::Column::RevokedAt, now.0.into())
        .filter(user_session::Column::MemberId.eq(row.id))
        .filter(user_session::Column::RevokedAt.is_null())
        .exec(transaction)
        .await?;
    invitation::Entity::update_many()
        .col_expr(invitation::Column::EndedAt, now.0.into())
        .filter(invitation::Column::CreatedBy.eq(row.id))
        .filter(invitation::Column::EndedAt.is_null())
        .exec(transaction)
        .await?;
    client_certificate::Entity::delete_many()
        .filter(client_certificate::Column::HolderId.eq(row.id.0))
        .exec(transaction)
        .await?;
    let secrets = all_secrets(transaction, row.tenant_id).await?;
    let all = all_keys(transaction, row.tenant_id).await?;
    let known = known_to(row.id.into(), all, &secrets, now);
    let keys: Vec<ApiKeyId> = known.keys.iter().map(|key| key.id).collect();
    end_secrets(transaction, &keys, &known.previous, now).await
}
