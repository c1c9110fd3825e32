//! Members of a tenant: their roles, and their end with all that they made.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use crate::domain::access::principal::{ActorKind, Role};
use crate::domain::ids::{MemberId, TenantId, UserId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, member, user};
use crate::store::queries::TenantScope;
use crate::store::queries::access::people::membership_end::{end, end_invitations, is_last_owner};
use crate::store::requester::write_audit;

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// The member after the change. One whose role was lowered has another id.
    Changed(member::Model),
    /// The tenant has no such member.
    Unknown,
    /// A tenant always has an owner.
    LastOwner,
}

impl TenantScope {
    /// One page of members with their persons, oldest first, with one row more than the limit.
    pub async fn members(
        &self,
        page: PageRequest,
    ) -> Result<Vec<(member::Model, user::Model)>, StoreError> {
        let mut query = member::Entity::find()
            .filter(member::Column::TenantId.eq(self.tenant_id))
            .filter(member::Column::RemovedAt.is_null())
            .order_by_asc(member::Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(member::Column::Id.gt(after));
        }
        let members = query.all(&self.reader).await?;
        let ids: Vec<UserId> = members.iter().map(|member| member.user_id).collect();
        let users =
            user::Entity::find().filter(user::Column::Id.is_in(ids)).all(&self.reader).await?;
        let of = |id: UserId| users.iter().find(|user| user.id == id).cloned();
        let joined = members.into_iter();
        Ok(joined.filter_map(|member| Some((member.clone(), of(member.user_id)?))).collect())
    }

    /// The person of a member, unless it was removed.
    pub async fn member(
        &self,
        id: MemberId,
    ) -> Result<Option<(member::Model, user::Model)>, StoreError> {
        let Some(member) = find(&self.reader, self.tenant_id, id).await? else { return Ok(None) };
        let user = user::Entity::find_by_id(member.user_id).all(&self.reader).await?.pop();
        Ok(user.map(|user| (member, user)))
    }

    /// Gives a member another role. A role without one of the rights of the present one ends the member
    /// and makes it another one, with the id `next`: its sessions, its invitations and its queued
    /// work end, and so do the keys that it created and every secret that it knows.
    pub async fn set_member_role(
        &self,
        id: MemberId,
        role: Role,
        next: MemberId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<MemberChange, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let Some(known) = find(transaction, tenant_id, id).await? else {
                        return Ok(MemberChange::Unknown);
                    };
                    if known.role == role {
                        return Ok(MemberChange::Changed(known));
                    }
                    if is_last_owner(transaction, &known).await? {
                        return Ok(MemberChange::LastOwner);
                    }
                    // Before the update: an owner may lower its own role.
                    write_audit(transaction, audit).await?;
                    end_invitations(transaction, &known, now).await?;
                    if role.tenant_scopes().is_superset(&known.role.tenant_scopes()) {
                        let name: &'static str = role.into();
                        member::Entity::update_many()
                            .col_expr(member::Column::Role, name.into())
                            .filter(member::Column::Id.eq(id))
                            .exec(transaction)
                            .await?;
                        return Ok(MemberChange::Changed(member::Model { role, ..known }));
                    }
                    end(transaction, &known, now).await?;
                    let row = member::Model { id: next, role, created_at: now, ..known };
                    member::Entity::insert(row.clone().into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    Ok(MemberChange::Changed(row))
                })
            })
            .await
    }

    /// Removes a member: its sessions, its invitations and its queued work end, and so do the keys that it
    /// created and every secret that it knows. If a member is the actor of the entry, that is remembered.
    pub async fn remove_member(
        &self,
        id: MemberId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<MemberChange, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let Some(known) = find(transaction, tenant_id, id).await? else {
                        return Ok(MemberChange::Unknown);
                    };
                    if is_last_owner(transaction, &known).await? {
                        return Ok(MemberChange::LastOwner);
                    }
                    let by_person = audit.actor_kind == ActorKind::Member;
                    let removed_by = audit.actor_id.filter(|_| by_person);
                    write_audit(transaction, audit).await?;
                    end_invitations(transaction, &known, now).await?;
                    end(transaction, &known, now).await?;
                    member::Entity::update_many()
                        .col_expr(member::Column::RemovedBy, removed_by.into())
                        .filter(member::Column::Id.eq(id))
                        .exec(transaction)
                        .await?;
                    Ok(MemberChange::Changed(known))
                })
            })
            .await
    }
}

async fn find(
    connection: &impl ConnectionTrait,
    tenant_id: TenantId,
    id: MemberId,
) -> Result<Option<member::Model>, StoreError> {
    let query = member::Entity::find_by_id(id)
        .filter(member::Column::TenantId.eq(tenant_id))
        .filter(member::Column::RemovedAt.is_null());
    Ok(query.all(connection).await?.pop())
}
