//! People as providers of single sign-on know them, and how they join.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
};

use super::user_sessions::live_member;
use crate::domain::ids::{IdentityId, InvitationId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, identity, invitation, member, tenant, user};
use crate::store::queries::SystemScope;
use crate::store::requester::write_audit;
use crate::store::writer::add_audit;

/// How a person joins. All rows are stored, or none.
#[derive(Debug, Clone, Default)]
pub struct IdentityJoin {
    pub identity: Option<identity::Model>,
    /// A person without an account.
    pub user: Option<user::Model>,
    /// A tenant of its own.
    pub tenant: Option<tenant::Model>,
    /// An invitation that it accepts.
    pub invitation: Option<InvitationId>,
    pub member: Option<member::Model>,
    /// The identity whose membership follows its provider from now on.
    pub follows: Option<IdentityId>,
    pub audits: Vec<audit_entry::Model>,
}

impl SystemScope {
    /// The identity of a subject.
    pub async fn identity(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<identity::Model>, StoreError> {
        find(&self.reader, issuer, subject).await
    }

    /// A person by id.
    pub async fn person(&self, id: UserId) -> Result<Option<user::Model>, StoreError> {
        Ok(user::Entity::find_by_id(id).all(&self.reader).await?.pop())
    }

    /// The oldest open invitation for an address, unless whoever made it is no member any more.
    pub async fn invitation_for(
        &self,
        email: &str,
        now: Timestamp,
    ) -> Result<Option<invitation::Model>, StoreError> {
        let open = invitation::Entity::find()
            .filter(invitation::Column::Email.eq(email))
            .filter(invitation::Column::EndedAt.is_null())
            .filter(invitation::Column::ExpiresAt.gt(now))
            .order_by_asc(invitation::Column::Id)
            .all(&self.reader)
            .await?;
        for row in open {
            if live_member(&self.reader, row.created_by).await?.is_some() {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Stores how a person joins; false if something of it has changed since it was read.
    pub async fn join_by_identity(&self, join: IdentityJoin) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let join = join.clone();
                Box::pin(async move {
                    if !is_current(transaction, &join).await? {
                        return Ok(false);
                    }
                    insert(transaction, join).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Gives an account an identity, for its person who is signed in; false if another account has it.
    ///
    /// # Errors
    /// [`StoreError::SessionEnded`] if the session of the entry has ended.
    pub async fn link_identity(
        &self,
        row: identity::Model,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    if let Some(known) = find(transaction, &row.issuer, &row.subject).await? {
                        return Ok(known.user_id == row.user_id);
                    }
                    write_audit(transaction, audit).await?;
                    identity::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    Ok(true)
                })
            })
            .await
    }
}

async fn find(
    connection: &impl ConnectionTrait,
    issuer: &str,
    subject: &str,
) -> Result<Option<identity::Model>, StoreError> {
    let query = identity::Entity::find()
        .filter(identity::Column::Issuer.eq(issuer))
        .filter(identity::Column::Subject.eq(subject));
    Ok(query.all(connection).await?.pop())
}

/// True if no account has the identity or the address meanwhile, and the invitation is open.
async fn is_current(
    transaction: &DatabaseTransaction,
    join: &IdentityJoin,
) -> Result<bool, StoreError> {
    if let Some(row) = &join.identity
        && find(transaction, &row.issuer, &row.subject).await?.is_some()
    {
        return Ok(false);
    }
    if let Some(row) = &join.user {
        let same = user::Entity::find().filter(user::Column::Email.eq(row.email.as_str()));
        if same.count(transaction).await? > 0 {
            return Ok(false);
        }
    }
    if let Some(row) = &join.member {
        let same = member::Entity::find()
            .filter(member::Column::TenantId.eq(row.tenant_id))
            .filter(member::Column::UserId.eq(row.user_id))
            .filter(member::Column::RemovedAt.is_null());
        if same.count(transaction).await? > 0 {
            return Ok(false);
        }
    }
    let Some(id) = join.invitation else { return Ok(true) };
    let open = invitation::Entity::find_by_id(id).filter(invitation::Column::EndedAt.is_null());
    let Some(open) = open.all(transaction).await?.pop() else { return Ok(false) };
    Ok(live_member(transaction, open.created_by).await?.is_some())
}

async fn insert(transaction: &DatabaseTransaction, join: IdentityJoin) -> Result<(), StoreError> {
    if let Some(row) = join.user {
        user::Entity::insert(row.into_active_model()).exec_without_returning(transaction).await?;
    }
    if let Some(row) = join.identity {
        identity::Entity::insert(row.into_active_model())
            .exec_without_returning(transaction)
            .await?;
    }
    if let Some(row) = join.tenant {
        tenant::Entity::insert(row.into_active_model()).exec_without_returning(transaction).await?;
    }
    if let Some((id, member)) = join.follows.zip(join.member.as_ref()) {
        identity::Entity::update_many()
            .col_expr(identity::Column::FollowsIn, member.tenant_id.0.into())
            .filter(identity::Column::Id.eq(id))
            .exec(transaction)
            .await?;
    }
    if let Some((id, member)) = join.invitation.zip(join.member.as_ref()) {
        invitation::Entity::update_many()
            .col_expr(invitation::Column::EndedAt, member.created_at.0.into())
            .filter(invitation::Column::Id.eq(id))
            .exec(transaction)
            .await?;
    }
    if let Some(row) = join.member {
        member::Entity::insert(row.into_active_model()).exec_without_returning(transaction).await?;
    }
    // The member that they name may have been made just now.
    join.audits.into_iter().try_for_each(add_audit)
}
