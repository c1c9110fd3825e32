//! People as providers of single sign-on know them, and how they join.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::membership_end::end_membership;
use super::session_end::{
    PASSWORD_CHANGED, SessionsToEnd, end_all, end_keys_of, entry_beside, sessions_to_end,
};
use super::user_sessions::live_member;
use crate::domain::ids::{IdentityId, InvitationId, SessionId, TenantId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{
    audit_entry, identity, invitation, mail, member, tenant, user,
};
use crate::store::queries::SystemScope;
use crate::store::queries::access::mails::queue_notice;
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

/// Identities of one person.
const MAX_IDENTITIES_OF_PERSON: usize = 16;
/// Why what belongs to an identity ends.
const IDENTITY_REMOVED: &str = "identity_removed";

/// The result of [`SystemScope::link_identity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityLink {
    Linked,
    /// Another account has it.
    Taken,
    /// The person has too many.
    Full,
}

/// The result of [`SystemScope::remove_identity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityRemoval {
    Removed,
    /// The person has no such identity.
    Unknown,
    /// The person could not sign in any more.
    LastWayIn,
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

    /// The oldest open invitation for an address, of one tenant or of any, if the person who made it is
    /// still a member.
    pub async fn invitation_for(
        &self,
        email: &str,
        tenant_id: Option<TenantId>,
        now: Timestamp,
    ) -> Result<Option<invitation::Model>, StoreError> {
        let mut open = invitation::Entity::find()
            .filter(invitation::Column::Email.eq(email))
            .filter(invitation::Column::EndedAt.is_null())
            .filter(invitation::Column::ExpiresAt.gt(now))
            .order_by_asc(invitation::Column::Id);
        if let Some(tenant_id) = tenant_id {
            open = open.filter(invitation::Column::TenantId.eq(tenant_id));
        }
        for row in open.all(&self.reader).await? {
            if live_member(&self.reader, row.created_by).await?.is_some() {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Whether a member has removed the person from the tenant, and no other membership came after that.
    pub async fn is_removed_by_member(
        &self,
        tenant_id: TenantId,
        user_id: UserId,
    ) -> Result<bool, StoreError> {
        is_removed_by_member(&self.reader, tenant_id, user_id).await
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

    /// Identities of a person, the oldest first.
    pub async fn identities(&self, user_id: UserId) -> Result<Vec<identity::Model>, StoreError> {
        of_user(&self.reader, user_id).await
    }

    /// Removes an identity of a person who is signed in, and ends the other sessions with the secrets of API
    /// keys that were made in them: they may have begun with it. `issuers`: whose identities sign in.
    ///
    /// # Errors
    /// [`StoreError::SessionEnded`] if the session of the entry has ended.
    pub async fn remove_identity(
        &self,
        (user_id, id): (UserId, IdentityId),
        session_id: SessionId,
        issuers: Vec<String>,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<IdentityRemoval, StoreError> {
        self.writer
            .change(move |transaction| {
                let (issuers, audit) = (issuers.clone(), audit.clone());
                Box::pin(async move {
                    let all = of_user(transaction, user_id).await?;
                    let Some(row) = all.iter().find(|row| row.id == id).cloned() else {
                        return Ok(IdentityRemoval::Unknown);
                    };
                    let person = user::Entity::find_by_id(user_id).all(transaction).await?.pop();
                    let has_password =
                        person.is_some_and(|person| !person.password_hash.is_empty());
                    let signs_in =
                        |other: &identity::Model| other.id != id && issuers.contains(&other.issuer);
                    if !has_password && !all.iter().any(signs_in) {
                        return Ok(IdentityRemoval::LastWayIn);
                    }
                    write_audit(transaction, audit.clone()).await?;
                    remove(transaction, &row, Some(&audit), now).await?;
                    let others = SessionsToEnd::AllBut(session_id);
                    let ids = sessions_to_end(transaction, user_id, others).await?;
                    let reason = IDENTITY_REMOVED;
                    for entry in end_keys_of(transaction, &ids, &audit, reason, now).await? {
                        add_audit(entry)?;
                    }
                    end_all(transaction, ids, now).await?;
                    Ok(IdentityRemoval::Removed)
                })
            })
            .await
    }

    /// Gives an account an identity, for its person who is signed in.
    ///
    /// # Errors
    /// [`StoreError::SessionEnded`] if the session of the entry has ended.
    pub async fn link_identity(
        &self,
        row: identity::Model,
        (audit, notice): (audit_entry::Model, Option<mail::Model>),
    ) -> Result<IdentityLink, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit, notice) = (row.clone(), audit.clone(), notice.clone());
                Box::pin(async move {
                    if let Some(known) = find(transaction, &row.issuer, &row.subject).await? {
                        return Ok(match known.user_id == row.user_id {
                            true => IdentityLink::Linked,
                            false => IdentityLink::Taken,
                        });
                    }
                    if of_user(transaction, row.user_id).await?.len() >= MAX_IDENTITIES_OF_PERSON {
                        return Ok(IdentityLink::Full);
                    }
                    queue_notice(transaction, notice).await?;
                    write_audit(transaction, audit).await?;
                    identity::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    Ok(IdentityLink::Linked)
                })
            })
            .await
    }
}

/// Removes the identities of a person whose password was replaced. Returns how many there were. `audit`: the
/// entry of the change.
pub(super) async fn remove_all_identities(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    audit: Option<&audit_entry::Model>,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let all = of_user(transaction, user_id).await?;
    for row in &all {
        remove(transaction, row, audit, now).await?;
        if let Some(audit) = audit {
            let subject = ("identity", row.id.0);
            let (tenant_id, action) = (audit.tenant_id, "identity.delete");
            add_audit(entry_beside(audit, tenant_id, action, subject, PASSWORD_CHANGED))?;
        }
    }
    Ok(all.len())
}

/// Deletes an identity, and ends the membership that followed it: without it no provider could end that.
async fn remove(
    transaction: &DatabaseTransaction,
    row: &identity::Model,
    audit: Option<&audit_entry::Model>,
    now: Timestamp,
) -> Result<(), StoreError> {
    identity::Entity::delete_by_id(row.id).exec(transaction).await?;
    let Some(tenant_id) = row.follows_in else { return Ok(()) };
    let ended = end_membership(transaction, tenant_id, row.user_id, now).await?;
    let Some((id, audit)) = ended.zip(audit) else { return Ok(()) };
    let subject = ("member", id.0);
    add_audit(entry_beside(audit, tenant_id, "member.delete", subject, IDENTITY_REMOVED))
}

async fn of_user(
    connection: &impl ConnectionTrait,
    user_id: UserId,
) -> Result<Vec<identity::Model>, StoreError> {
    let query = identity::Entity::find()
        .filter(identity::Column::UserId.eq(user_id))
        .order_by_asc(identity::Column::Id);
    Ok(query.all(connection).await?)
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

async fn is_removed_by_member(
    connection: &impl ConnectionTrait,
    tenant_id: TenantId,
    user_id: UserId,
) -> Result<bool, StoreError> {
    let last = member::Entity::find()
        .filter(member::Column::TenantId.eq(tenant_id))
        .filter(member::Column::UserId.eq(user_id))
        .order_by_desc(member::Column::Id)
        .limit(1);
    let last = last.all(connection).await?.pop();
    Ok(last.is_some_and(|last| last.removed_by.is_some()))
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
    let Some(id) = join.invitation else {
        let Some(row) = &join.member else { return Ok(true) };
        return Ok(!is_removed_by_member(transaction, row.tenant_id, row.user_id).await?);
    };
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
