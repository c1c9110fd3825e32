//! Members who are signed in.

use super::device_logins::use_device_login;
use super::second_factors::{UsedFactor, lacks_second_factor, use_factor};
use super::session_end::{SessionsToEnd, end_all, end_one, members_of, sessions_to_end};
use crate::domain::ids::{DeviceLoginId, MemberId, SessionId, TenantId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, mail, member, tenant, user, user_session};
use crate::store::queries::SystemScope;
use crate::store::queries::access::mails::queue_notice;
use crate::store::requester::write_audit;
use crate::store::writer::add_audit;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

/// Sessions of one member at once; the oldest ends.
const MAX_SESSIONS_OF_MEMBER: usize = 32;
/// How long the row of a session stays after its end.
const KEPT_MS: u64 = 30 * 24 * 3_600_000;

/// A session that has not ended, its member and its person.
#[derive(Debug, Clone)]
pub struct LiveUserSession {
    pub session: user_session::Model,
    pub member: member::Model,
    pub user: user::Model,
    /// True if the tenant requires a second factor that the person does not have.
    pub lacks_second_factor: bool,
}

/// A sign-in.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub session: user_session::Model,
    /// The hash that the password was checked against. Another one in the database means that the
    /// password was changed meanwhile.
    pub password_hash: String,
    /// A second factor that it uses up. Such a session begins once.
    pub factor: Option<UsedFactor>,
    /// A session that this one replaces.
    pub replaces: Option<SessionId>,
    /// A sign-in of a program that it uses up.
    pub device_login: Option<DeviceLoginId>,
    pub audits: Vec<audit_entry::Model>,
    /// A mail about it.
    pub notice: Option<mail::Model>,
}

impl SystemScope {
    /// The person with this address.
    pub async fn user(&self, email: &str) -> Result<Option<user::Model>, StoreError> {
        let query = user::Entity::find().filter(user::Column::Email.eq(email));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// What a person is a member of, the first first.
    pub async fn memberships(
        &self,
        user_id: UserId,
    ) -> Result<Vec<(member::Model, tenant::Model)>, StoreError> {
        let members = member::Entity::find()
            .filter(member::Column::UserId.eq(user_id))
            .filter(member::Column::RemovedAt.is_null())
            .order_by_asc(member::Column::Id)
            .all(&self.reader)
            .await?;
        let ids = members.iter().map(|member| member.tenant_id);
        let tenants =
            tenant::Entity::find().filter(tenant::Column::Id.is_in(ids)).all(&self.reader).await?;
        let of = |id: TenantId| tenants.iter().find(|tenant| tenant.id == id).cloned();
        let joined = members.into_iter();
        Ok(joined.filter_map(|member| Some((member.clone(), of(member.tenant_id)?))).collect())
    }

    /// A session that has not ended, unless its member was removed.
    pub async fn live_session(&self, id: SessionId) -> Result<Option<LiveUserSession>, StoreError> {
        let session = user_session::Entity::find_by_id(id)
            .filter(user_session::Column::RevokedAt.is_null())
            .all(&self.reader)
            .await?
            .pop();
        let Some(session) = session else { return Ok(None) };
        let member = live_member(&self.reader, session.member_id).await?;
        let Some(member) = member else { return Ok(None) };
        let user = user::Entity::find_by_id(member.user_id).all(&self.reader).await?.pop();
        let Some(user) = user else { return Ok(None) };
        let lacks_second_factor = self.misses_required_factor(member.tenant_id, &user).await?;
        Ok(Some(LiveUserSession { session, member, user, lacks_second_factor }))
    }

    /// The account of a member.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<user::Model>, StoreError> {
        Ok(user::Entity::find_by_id(id).all(&self.reader).await?.pop())
    }

    /// True if a tenant requires a second factor, and the person has none.
    pub async fn misses_required_factor(
        &self,
        tenant_id: TenantId,
        user: &user::Model,
    ) -> Result<bool, StoreError> {
        let required = tenant::Entity::find_by_id(tenant_id)
            .filter(tenant::Column::RequiresSecondFactor.eq(true))
            .all(&self.reader)
            .await?;
        Ok(!required.is_empty() && lacks_second_factor(&self.reader, user).await?)
    }

    /// Stores a sign-in, and ends the oldest sessions of its member beyond the limit. Returns the sessions
    /// that ended, with the replaced one.
    ///
    /// # Errors
    /// [`StoreError::SessionEnded`] if the member was removed, the password was changed, or the replaced
    /// session ended meanwhile.
    pub async fn create_session(&self, new: NewSession) -> Result<Vec<SessionId>, StoreError> {
        self.writer
            .change(move |transaction| {
                let new = new.clone();
                Box::pin(async move {
                    let (now, member_id) = (new.session.created_at, new.session.member_id);
                    let member = live_member(transaction, member_id).await?;
                    let member = member.ok_or(StoreError::SessionEnded)?;
                    let user =
                        user::Entity::find_by_id(member.user_id).all(transaction).await?.pop();
                    if user.is_none_or(|user| user.password_hash != new.password_hash) {
                        return Err(StoreError::SessionEnded);
                    }
                    if let Some(factor) = new.factor
                        && (has_begun(transaction, new.session.id).await?
                            || !use_factor(transaction, member.user_id, factor).await?)
                    {
                        return Err(StoreError::SessionEnded);
                    }
                    if let Some(id) = new.replaces
                        && end_one(transaction, id, now).await? == 0
                    {
                        return Err(StoreError::SessionEnded);
                    }
                    if let Some(id) = new.device_login
                        && !use_device_login(transaction, id, now).await?
                    {
                        return Err(StoreError::SessionEnded);
                    }
                    let mut ended = forget_old(transaction, member_id, now).await?;
                    ended.extend(new.replaces);
                    user_session::Entity::insert(new.session.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    queue_notice(transaction, new.notice).await?;
                    for audit in new.audits {
                        // The session that it names began or ended just now.
                        add_audit(audit)?;
                    }
                    Ok(ended)
                })
            })
            .await
    }

    /// Sessions of a person that have not ended, in all of its tenants, the newest first.
    pub async fn sessions_of_user(
        &self,
        user_id: UserId,
        now: Timestamp,
    ) -> Result<Vec<user_session::Model>, StoreError> {
        let members = members_of(&self.reader, user_id).await?;
        let query = user_session::Entity::find()
            .filter(user_session::Column::MemberId.is_in(members))
            .filter(user_session::Column::RevokedAt.is_null())
            .filter(user_session::Column::ExpiresAt.gt(now))
            .order_by_desc(user_session::Column::Id);
        Ok(query.all(&self.reader).await?)
    }

    /// Ends sessions of a person. Returns how many.
    pub async fn end_sessions(
        &self,
        user_id: UserId,
        which: SessionsToEnd,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<u64, StoreError> {
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let ids = sessions_to_end(transaction, user_id, which).await?;
                    if ids.is_empty() {
                        return Ok(0);
                    }
                    // Before the update: a session may end itself.
                    write_audit(transaction, audit).await?;
                    end_all(transaction, ids, now).await
                })
            })
            .await
    }

    /// Records that the person of a session proved the password, or used a second factor. False if that was
    /// used meanwhile.
    pub async fn confirm_session(
        &self,
        id: SessionId,
        factor: Option<(UserId, UsedFactor)>,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (factor, audit) = (factor.clone(), audit.clone());
                Box::pin(async move {
                    let by_passkey = matches!(factor, Some((_, UsedFactor::Passkey(_))));
                    if let Some((user_id, factor)) = factor
                        && !use_factor(transaction, user_id, factor).await?
                    {
                        return Ok(false);
                    }
                    write_audit(transaction, audit).await?;
                    confirm(transaction, id, now, by_passkey).await?;
                    Ok(true)
                })
            })
            .await
    }
}

/// A member, unless it was removed.
pub(in crate::store::queries) async fn live_member(
    connection: &impl ConnectionTrait,
    id: MemberId,
) -> Result<Option<member::Model>, StoreError> {
    let query = member::Entity::find_by_id(id).filter(member::Column::RemovedAt.is_null());
    Ok(query.all(connection).await?.pop())
}

async fn has_begun(transaction: &DatabaseTransaction, id: SessionId) -> Result<bool, StoreError> {
    Ok(!user_session::Entity::find_by_id(id).all(transaction).await?.is_empty())
}

pub(super) async fn confirm(
    transaction: &DatabaseTransaction,
    id: SessionId,
    now: Timestamp,
    by_passkey: bool,
) -> Result<(), StoreError> {
    user_session::Entity::update_many()
        .col_expr(user_session::Column::ConfirmedAt, now.0.into())
        .col_expr(user_session::Column::ConfirmedByPasskey, by_passkey.into())
        .filter(user_session::Column::Id.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}

/// Makes room for one more session of a member. Returns the sessions that ended for it.
async fn forget_old(
    transaction: &DatabaseTransaction,
    member_id: MemberId,
    now: Timestamp,
) -> Result<Vec<SessionId>, StoreError> {
    user_session::Entity::delete_many()
        .filter(user_session::Column::MemberId.eq(member_id))
        .filter(user_session::Column::ExpiresAt.lt(now.minus_ms(KEPT_MS)))
        .exec(transaction)
        .await?;
    let live: Vec<SessionId> = user_session::Entity::find()
        .select_only()
        .column(user_session::Column::Id)
        .filter(user_session::Column::MemberId.eq(member_id))
        .filter(user_session::Column::RevokedAt.is_null())
        .order_by_asc(user_session::Column::Id)
        .into_tuple()
        .all(transaction)
        .await?;
    let beyond = (live.len() + 1).saturating_sub(MAX_SESSIONS_OF_MEMBER);
    let ended = live[..beyond].to_vec();
    if !ended.is_empty() {
        end_all(transaction, ended.clone(), now).await?;
    }
    Ok(ended)
}
