//! Invitations: each makes one member, once.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    Select,
};

use super::user_sessions::live_member;
use crate::domain::access::credential::SecretHash;
use crate::domain::ids::{InvitationId, TenantId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, invitation, mail, member, user};
use crate::store::queries::access::mails::queue_notice;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;
use crate::store::writer::add_audit;

/// Open invitations of one tenant.
const MAX_INVITATIONS: u64 = 200;

/// Who accepts an invitation.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// With the hash that the password was checked against, for an account that exists.
    pub user: user::Model,
    pub is_new: bool,
    pub member: member::Model,
    pub audit: audit_entry::Model,
}

/// The result of [`SystemScope::accept_invitation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    Created,
    /// It was accepted, withdrawn or expired, or the person who made it is no longer a member.
    Invalid,
    AlreadyMember,
    /// The account was made or its password changed meanwhile.
    AccountChanged,
}

impl TenantScope {
    /// Stores an invitation in place of an open one for the same address; false if the tenant has as many as it may.
    pub async fn create_invitation(
        &self,
        row: invitation::Model,
        mail: Option<mail::Model>,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, mail, audit) = (row.clone(), mail.clone(), audit.clone());
                Box::pin(async move {
                    let open = open(row.tenant_id, row.created_at).count(transaction).await?;
                    if open >= MAX_INVITATIONS {
                        return Ok(false);
                    }
                    // One open invitation for an address: who got an earlier one has one role, not two.
                    end_for(transaction, row.tenant_id, &row.email, row.created_at).await?;
                    invitation::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    queue_notice(transaction, mail).await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// One page of open invitations, oldest first, with one row more than the limit.
    pub async fn invitations(
        &self,
        page: PageRequest,
        now: Timestamp,
    ) -> Result<Vec<invitation::Model>, StoreError> {
        let mut query =
            open(self.tenant_id, now).order_by_asc(invitation::Column::Id).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(invitation::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// Withdraws an invitation; false if the tenant has no such open one.
    pub async fn withdraw_invitation(
        &self,
        id: InvitationId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let ended = invitation::Entity::update_many()
                        .col_expr(invitation::Column::EndedAt, now.0.into())
                        .filter(invitation::Column::Id.eq(id))
                        .filter(invitation::Column::TenantId.eq(tenant_id))
                        .filter(invitation::Column::EndedAt.is_null())
                        .exec(transaction)
                        .await?;
                    if ended.rows_affected == 0 {
                        return Ok(false);
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

impl SystemScope {
    /// The open invitation of a token, if the person who made it is still a member.
    pub async fn invitation(
        &self,
        token: SecretHash,
        now: Timestamp,
    ) -> Result<Option<invitation::Model>, StoreError> {
        find(&self.reader, token, now).await
    }

    /// Makes a member, and a user if there is none, and ends the invitation.
    pub async fn accept_invitation(
        &self,
        token: SecretHash,
        new: NewMember,
    ) -> Result<Accepted, StoreError> {
        self.writer
            .change(move |transaction| {
                let new = new.clone();
                Box::pin(async move {
                    let now = new.member.created_at;
                    let Some(open) = find(transaction, token, now).await? else {
                        return Ok(Accepted::Invalid);
                    };
                    let known = user::Entity::find()
                        .filter(user::Column::Email.eq(open.email.as_str()))
                        .all(transaction)
                        .await?
                        .pop();
                    match known {
                        None if new.is_new => {
                            user::Entity::insert(new.user.clone().into_active_model())
                                .exec_without_returning(transaction)
                                .await?;
                        }
                        Some(known)
                            if !new.is_new
                                && known.id == new.user.id
                                && known.password_hash == new.user.password_hash => {}
                        _ => return Ok(Accepted::AccountChanged),
                    }
                    if is_member(transaction, &new.member).await? {
                        return Ok(Accepted::AlreadyMember);
                    }
                    member::Entity::insert(new.member.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    end_for(transaction, open.tenant_id, &open.email, now).await?;
                    add_audit(new.audit)?;
                    Ok(Accepted::Created)
                })
            })
            .await
    }
}

/// Ends the open invitations of a tenant for an address.
pub(in crate::store::queries) async fn end_for(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    email: &str,
    now: Timestamp,
) -> Result<(), DbErr> {
    invitation::Entity::update_many()
        .col_expr(invitation::Column::EndedAt, now.0.into())
        .filter(invitation::Column::TenantId.eq(tenant_id))
        .filter(invitation::Column::Email.eq(email))
        .filter(invitation::Column::EndedAt.is_null())
        .exec(transaction)
        .await?;
    Ok(())
}

fn open(tenant_id: TenantId, now: Timestamp) -> Select<invitation::Entity> {
    invitation::Entity::find()
        .filter(invitation::Column::TenantId.eq(tenant_id))
        .filter(invitation::Column::EndedAt.is_null())
        .filter(invitation::Column::ExpiresAt.gt(now))
}

async fn find(
    connection: &impl ConnectionTrait,
    token: SecretHash,
    now: Timestamp,
) -> Result<Option<invitation::Model>, StoreError> {
    let found = invitation::Entity::find()
        .filter(invitation::Column::TokenHash.eq(token.0.to_vec()))
        .filter(invitation::Column::EndedAt.is_null())
        .filter(invitation::Column::ExpiresAt.gt(now))
        .all(connection)
        .await?
        .pop();
    let Some(found) = found else { return Ok(None) };
    let maker = live_member(connection, found.created_by).await?;
    Ok(maker.map(|_| found))
}

async fn is_member(
    transaction: &DatabaseTransaction,
    new: &member::Model,
) -> Result<bool, StoreError> {
    let query = member::Entity::find()
        .filter(member::Column::TenantId.eq(new.tenant_id))
        .filter(member::Column::UserId.eq(new.user_id))
        .filter(member::Column::RemovedAt.is_null());
    Ok(query.count(transaction).await? > 0)
}
