//! Who the caller is, its sessions and its password.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::confirmation::require_session;
use super::setup::{password_problem, record};
use super::sign_in::{Proof, SignIn, end_of};
use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::people::password::check_password;
use crate::domain::access::records::{MemberRecord, UserSessionRecord};
use crate::domain::ids::SessionId;
use crate::domain::time::Timestamp;
use crate::services::access::caller::{AuditAction, Caller, Subject};
use crate::services::access::mails::Letter;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::{audit_entry, member, tenant};
use crate::store::queries::{LiveUserSession, SessionsToEnd};

/// What a person or a key sees of itself.
#[derive(Debug, Clone, Copy)]
pub struct OwnAccount<'a>(pub &'a SignIn);

/// The caller.
#[derive(Debug)]
pub struct Myself {
    pub tenant_name: String,
    /// Of a person.
    pub session: Option<UserSessionRecord>,
    /// Of a person, in every tenant, the first first.
    pub memberships: Vec<MemberRecord>,
}

impl OwnAccount<'_> {
    /// The caller, as the database knows it.
    pub async fn myself(&self, caller: &Caller) -> Result<Myself> {
        let system = self.0.store.system();
        let tenant_id = caller.principal.tenant_id;
        if caller.principal.session_id().is_none() {
            let tenant = self.0.store.tenant(tenant_id).tenant().await?;
            let tenant_name = tenant.map(|tenant| tenant.name).unwrap_or_default();
            return Ok(Myself { tenant_name, session: None, memberships: Vec::new() });
        }
        let live = require_session(&self.0.store, caller).await?;
        let joined = system.memberships(live.user.id).await?;
        let memberships: Vec<_> =
            joined.iter().map(|(member, tenant)| record(&live.user, member, tenant)).collect();
        let here = memberships.iter().find(|member| member.tenant_id == tenant_id);
        let tenant_name = here.map(|member| member.tenant_name.clone()).unwrap_or_default();
        Ok(Myself { tenant_name, session: Some(live.session.into()), memberships })
    }

    /// The sessions of the caller's person, in all of its tenants, the newest first.
    ///
    /// # Errors
    /// 403 `session_required` for an API key.
    pub async fn sessions(&self, caller: &Caller) -> Result<Vec<UserSessionRecord>> {
        let live = require_session(&self.0.store, caller).await?;
        let now = self.0.clock.now();
        let rows = self.0.store.system().sessions_of_user(live.user.id, now).await?;
        Ok(rows.into_iter().map(UserSessionRecord::from).collect())
    }

    /// Ends one session of the caller's person. Its tokens are invalid when this returns.
    ///
    /// # Errors
    /// 403 `session_required` for an API key; 404 for a session of another person.
    pub async fn end_session(&self, caller: &Caller, id: SessionId) -> Result<()> {
        let live = require_session(&self.0.store, caller).await?;
        let now = self.0.clock.now();
        let (one, audit) = (SessionsToEnd::One(id), end_of(caller, id, now));
        let ended = self.0.store.system().end_sessions(live.user.id, one, now, audit).await?;
        if ended == 0 {
            return Err(ServiceError::NotFound("session"));
        }
        self.0.cache.forget_principals();
        Ok(())
    }

    /// Replaces the password, and ends the person's other sessions; removes its identities if it wants that.
    ///
    /// # Errors
    /// 403 `session_required` for an API key, 403 `wrong_password`; 422 for a new password that is not
    /// good enough; [`ServiceError::RateLimited`].
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: Zeroizing<String>,
        new: Zeroizing<String>,
        remove_identities: bool,
    ) -> Result<()> {
        let live = require_session(&self.0.store, caller).await?;
        let email = EmailAddress::parse(&live.user.email);
        let email = email.map_err(|_| ServiceError::NotFound("user"))?;
        check_password(&new, &email)
            .map_err(|problem| password_problem("new_password", problem))?;
        let field = "current_password";
        let given = Proof { caller, password: current, user: &live.user, field };
        self.0.prove(given).await?;
        let new_hash = self.0.passwords.hash(new).await?;
        let now = self.0.clock.now();
        let subject = Subject { kind: "member", id: live.member.id.0 };
        let detail = json!({"changed": ["password"]});
        let mut audits = vec![caller.audit("member.update", subject, &detail, now)];
        audits.extend(entries_of_other_tenants(&self.0.store, &live, &detail, now).await?);
        let hashes = (live.user.password_hash, new_hash);
        let notice = self.0.mails.notice(&live.user.email, &Letter::PasswordChanged)?;
        let (system, reported) = (self.0.store.system(), (audits, notice));
        let kept = (live.session.id, remove_identities);
        system.change_password(live.user.id, hashes, kept, now, reported).await?;
        self.0.cache.forget_principals();
        self.0.mails.wake();
        Ok(())
    }
}

/// Entries for the person's other tenants, which learn that something of their member changed, and nothing
/// of where.
pub(super) async fn entries_of_other_tenants(
    store: &Store,
    live: &LiveUserSession,
    detail: &Value,
    now: Timestamp,
) -> Result<Vec<audit_entry::Model>> {
    let memberships = store.system().memberships(live.user.id).await?;
    let others = memberships.into_iter().filter(|(member, _)| member.id != live.member.id);
    let entry = |(member, tenant): (member::Model, tenant::Model)| {
        let subject = Subject { kind: "member", id: member.id.0 };
        let (tenant_id, action) = (tenant.id, "member.update");
        AuditAction { tenant_id, action, subject, detail, at: now }.by_system()
    };
    Ok(others.map(entry).collect())
}
