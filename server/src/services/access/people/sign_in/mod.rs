//! People sign in with a password, refresh their tokens, and sign out.

pub mod challenge;
pub(in crate::services) mod limiter;

use std::sync::LazyLock;

use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::challenge::{WaitingSignIn, waiting};
use self::limiter::SignInLimiter;
use super::access_tokens::AccessTokens;
use super::confirmation::require_session;
use super::own_attempts::OwnAttempts;
use super::passwords::Passwords;
use super::session_start::SessionStart;
use super::setup::record;
use crate::domain::access::allowance::Allowance;
use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::people::password::MAX_PASSWORD_BYTES;
use crate::domain::access::people::refresh_token::{
    PresentedRefresh, REFRESH_TOKEN_MS, RefreshDecision, RefreshToken,
};
use crate::domain::access::records::MemberRecord;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::ids::{MemberId, SessionId, TenantId, UserId};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::{Clock, Timestamp};
use crate::services::access::caller::{AuditAction, Caller, Client, Subject};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::keys::lookup_limiter::LookupLimiter;
use crate::services::access::mails::{Letter, Mails};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::{audit_entry, member, tenant, user, user_session};
use crate::store::queries::{NewSession, Refreshed, SessionsToEnd, UsedFactor};
use crate::store::{Store, StoreError};

/// The entries about addresses that no tenant knows belong to no tenant.
const NO_TENANT: TenantId = TenantId(Uuid::nil());
const NOBODY: UserId = UserId(Uuid::nil());

static NO_DETAIL: LazyLock<Value> = LazyLock::new(|| json!({}));

const WRONG_PASSWORD: ServiceError = ServiceError::Unauthenticated {
    code: "wrong_sign_in",
    detail: "the address or the password is wrong",
};
const WRONG_REFRESH: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_refresh_token",
    detail: "the refresh token is not valid; sign in again",
};

/// Sign-in, refresh and sign-out.
#[derive(Debug, Clone)]
pub struct SignIn {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) tokens: AccessTokens,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) passwords: Passwords,
    pub(in crate::services) limiter: SignInLimiter,
    pub(in crate::services) own_attempts: OwnAttempts,
    pub(in crate::services) lookups: LookupLimiter,
    pub(in crate::services) mails: Mails,
}

/// What a person types.
pub struct Credentials {
    pub email: String,
    pub password: Zeroizing<String>,
    /// Default: the first tenant that the person is a member of.
    pub tenant_id: Option<TenantId>,
}

/// The tokens of a session. Show them once, then drop them.
pub struct SessionTokens {
    pub session_id: SessionId,
    pub access_token: Zeroizing<String>,
    pub access_expires_at: Timestamp,
    pub refresh_token: Zeroizing<String>,
    pub refresh_expires_at: Timestamp,
}

/// A person who is signed in.
pub struct SignedIn {
    pub tokens: SessionTokens,
    pub member: MemberRecord,
}

/// The answer to the right password.
pub enum SignInAnswer {
    SignedIn(SignedIn),
    /// The person has a second factor.
    Waiting(WaitingSignIn),
}

/// What a sign-in is checked against.
struct SignInAccount {
    user: Option<user::Model>,
    memberships: Vec<(member::Model, tenant::Model)>,
}

impl SignIn {
    /// Signs a person in. Neither answer nor time shows whether an address is known. The outer error is
    /// that of too many attempts; any other answer shows what is left of the limit.
    ///
    /// # Errors
    /// [`ServiceError::RateLimited`]; 401 `wrong_sign_in`, 503 if too many sign in.
    pub async fn sign_in(
        &self,
        client: &Client,
        given: Credentials,
    ) -> Result<(Allowance, Result<SignInAnswer>)> {
        let (source, email) = (client.limited_as, given.email.clone());
        let known = self.own_attempts.check_known(source, &email);
        let allowance = known.unwrap_or_else(|| self.limiter.attempt(source, &email))?;
        let signed_in = self.try_sign_in(client, given).await;
        if matches!(signed_in, Ok(SignInAnswer::SignedIn(_))) {
            self.own_attempts.remember(source, &email);
        }
        Ok((allowance, signed_in))
    }

    async fn try_sign_in(&self, client: &Client, given: Credentials) -> Result<SignInAnswer> {
        check_length("password", &given.password)?;
        let account = self.account(&given.email).await?;
        let hash = account.user.as_ref().map(|user| user.password_hash.clone());
        let is_right = self.passwords.verify(given.password, hash).await?;
        let wanted = account.memberships.iter();
        let chosen = wanted
            .filter(|(member, _)| given.tenant_id.is_none_or(|id| member.tenant_id == id))
            .find(|_| is_right)
            .cloned();
        let (Some(user), Some((member, tenant))) = (&account.user, chosen) else {
            self.record_failure(client, &account.memberships).await?;
            return Err(WRONG_PASSWORD);
        };
        let (parts, now) = ((&self.store, &self.secret_box), self.clock.now());
        if let Some(waiting) = waiting(parts, user, &member, now).await? {
            return Ok(SignInAnswer::Waiting(waiting));
        }
        let start = SessionStart::confirmed(now);
        let made = self.create_session(client, user, (&member, &tenant), start).await;
        match made {
            // The password was changed, or the member removed, since it was checked.
            Err(ServiceError::Unauthenticated { code: "session_ended", .. }) => Err(WRONG_PASSWORD),
            made => made.map(SignInAnswer::SignedIn),
        }
    }

    /// The same reads for any address.
    async fn account(&self, email: &str) -> Result<SignInAccount> {
        let email = EmailAddress::parse(email).map(|email| email.to_string()).unwrap_or_default();
        let user = self.store.system().user(&email).await?;
        let id = user.as_ref().map_or(NOBODY, |user| user.id);
        let memberships = self.store.system().memberships(id).await?;
        Ok(SignInAccount { user, memberships })
    }

    /// Each tenant of the person gets an audit entry. An unknown address costs an entry, too.
    pub(super) async fn record_failure(
        &self,
        client: &Client,
        memberships: &[(member::Model, tenant::Model)],
    ) -> Result<()> {
        let of_members = memberships.iter().map(|(member, _)| (member.tenant_id, member.id));
        let mut subjects: Vec<_> = of_members.collect();
        if subjects.is_empty() {
            subjects.push((NO_TENANT, MemberId(Uuid::nil())));
        }
        let entry = |(tenant_id, member_id)| {
            let action = self.action(tenant_id, "session.refuse", member_id);
            audit_entry::Model { source: client.source.clone(), ..action.by_system() }
        };
        let entries = subjects.into_iter().map(entry).collect();
        Ok(self.store.system().append_audit(entries).await?)
    }

    fn action(
        &self,
        tenant_id: TenantId,
        action: &'static str,
        member_id: MemberId,
    ) -> AuditAction<'static> {
        let subject = Subject { kind: "member", id: member_id.0 };
        AuditAction { tenant_id, action, subject, detail: &NO_DETAIL, at: self.clock.now() }
    }

    pub(super) async fn create_session(
        &self,
        client: &Client,
        user: &user::Model,
        (member, tenant): (&member::Model, &tenant::Model),
        start: SessionStart,
    ) -> Result<SignedIn> {
        let now = self.clock.now();
        let id = start.id;
        let refresh_token = RefreshToken::first(id, &self.secret_box)?;
        let refresh_expires_at = now.plus_ms(REFRESH_TOKEN_MS);
        let session = user_session::Model {
            id,
            tenant_id: tenant.id,
            member_id: member.id,
            created_at: now,
            refreshed_at: now,
            expires_at: refresh_expires_at,
            confirmed_at: start.confirmed_at,
            confirmed_by_passkey: start.by_passkey,
            refresh_hash: refresh_token.hash().0.to_vec(),
            previous_refresh_hash: None,
            revoked_at: None,
            source: client.source.clone(),
        };
        let action = self.action(tenant.id, "session.create", member.id);
        let action = AuditAction { detail: &start.detail, ..action };
        let mut audits = vec![action.by_member(member.id, Some(id), client)];
        let replaces = start.replaces.as_ref().map(|(id, _)| *id);
        audits.extend(start.replaces.map(|(_, audit)| audit));
        let (password_hash, device_login) = (user.password_hash.clone(), start.device_login);
        let factor = start.factor;
        let notice = match factor {
            Some(UsedFactor::Recovery(_)) => {
                self.mails.notice(&user.email, &Letter::RecoveryCodeUsed)?
            }
            Some(UsedFactor::Totp { .. } | UsedFactor::Passkey(_)) | None => None,
        };
        let has_notice = notice.is_some();
        let new =
            NewSession { session, password_hash, factor, replaces, device_login, audits, notice };
        let ended = self.store.system().create_session(new).await?;
        if has_notice {
            self.mails.wake();
        }
        // The oldest one of a member beyond the limit, or the one that this one replaces.
        if !ended.is_empty() {
            self.cache.forget_principals();
        }
        let (access_token, claims) = self.tokens.issue(member.id, id).await?;
        let tokens = SessionTokens {
            session_id: id,
            access_token: access_token.into(),
            access_expires_at: claims.expires_at,
            refresh_token: refresh_token.text(),
            refresh_expires_at,
        };
        Ok(SignedIn { tokens, member: record(user, member, tenant) })
    }

    /// Exchanges a refresh token for the next one and an access token. A token that was replaced more
    /// than 10 seconds ago ends its session: another person may have it.
    ///
    /// # Errors
    /// 401 `invalid_refresh_token`, or `session_ended` for a session that ends by it;
    /// [`ServiceError::TooMany`] if the source presents too many unknown tokens.
    pub async fn refresh(&self, client: &Client, text: &str) -> Result<SessionTokens> {
        let token = RefreshToken::parse(text).ok_or(WRONG_REFRESH)?;
        if client.limited_as.is_some_and(|source| !self.lookups.may_look_up(source)) {
            return Err(ServiceError::TooMany {
                code: "too_many_unknown_keys",
                detail: "too many unknown keys were sent from this address; check the key and try again later",
            });
        }
        let next = token.next(&self.secret_box);
        let is_authentic = token.is_authentic(&self.secret_box);
        let presented = PresentedRefresh { hash: token.hash(), next: next.hash(), is_authentic };
        if !is_authentic && !self.is_current(&token).await? {
            client.limited_as.inspect(|source| self.lookups.record_failure(*source));
            return Err(WRONG_REFRESH);
        }
        let refreshed = self.refresh_row(client, token.session_id, presented).await?;
        let refreshed = refreshed.ok_or(WRONG_REFRESH)?;
        match refreshed.decision {
            RefreshDecision::Rotate | RefreshDecision::Repeat => {}
            RefreshDecision::End => {
                self.cache.forget_principals();
                tracing::warn!(session = %token.session_id, "a refresh token was used again, so its session ends");
                return Err(StoreError::SessionEnded.into());
            }
            RefreshDecision::Refuse => return Err(WRONG_REFRESH),
        }
        let (access_token, claims) =
            self.tokens.issue(refreshed.member_id, token.session_id).await?;
        Ok(SessionTokens {
            session_id: token.session_id,
            access_token: access_token.into(),
            access_expires_at: claims.expires_at,
            refresh_token: next.text(),
            refresh_expires_at: refreshed.expires_at,
        })
    }

    /// True for a token that the database knows. One of an earlier master key has a tag of that key.
    async fn is_current(&self, token: &RefreshToken) -> Result<bool> {
        let live = self.store.system().live_session(token.session_id).await?;
        Ok(live.is_some_and(|live| live.session.refresh_hash == token.hash().0))
    }

    async fn refresh_row(
        &self,
        client: &Client,
        id: SessionId,
        presented: PresentedRefresh,
    ) -> Result<Option<Refreshed>> {
        let now = self.clock.now();
        let source = client.source.clone();
        let stolen = move |row: &user_session::Model| {
            let action = AuditAction {
                tenant_id: row.tenant_id,
                action: "session.revoke",
                subject: Subject { kind: "session", id: row.id.0 },
                detail: &json!({"reason": "refresh_token_reused", "member_id": row.member_id}),
                at: now,
            };
            audit_entry::Model { source: source.clone(), ..action.by_system() }
        };
        Ok(self.store.system().refresh_session(id, presented, now, stolen).await?)
    }

    /// Ends the session of the caller. Its tokens are invalid when this returns.
    ///
    /// # Errors
    /// 403 `session_required` for an API key.
    pub async fn sign_out(&self, caller: &Caller) -> Result<()> {
        let live = require_session(&self.store, caller).await?;
        let now = self.clock.now();
        let audit = end_of(caller, live.session.id, now);
        let one = SessionsToEnd::One(live.session.id);
        self.store.system().end_sessions(live.user.id, one, now, audit).await?;
        self.cache.forget_principals();
        Ok(())
    }

    /// Replaces the session of the caller by one in another tenant of the same person.
    ///
    /// # Errors
    /// 403 `session_required` for an API key; 404 if the person is no member of the tenant.
    pub async fn switch_tenant(&self, caller: &Caller, tenant_id: TenantId) -> Result<SignedIn> {
        let live = require_session(&self.store, caller).await?;
        let memberships = self.store.system().memberships(live.user.id).await?;
        let wanted = memberships.iter().find(|(member, _)| member.tenant_id == tenant_id);
        let (member, tenant) = wanted.ok_or(ServiceError::NotFound("tenant"))?;
        let audit = end_of(caller, live.session.id, self.clock.now());
        let start = SessionStart::replacing(&live.session, audit);
        self.create_session(&caller.client(), &live.user, (member, tenant), start).await
    }

    /// # Errors
    /// 403 `wrong_password`; [`ServiceError::RateLimited`] by the person, so that guesses without a session
    /// do not keep them from it.
    pub(super) async fn prove(&self, given: Proof<'_>) -> Result<()> {
        let Proof { caller, password, user, field } = given;
        match caller.principal.session_id() {
            Some(_) => self.own_attempts.in_session_of(user.id)?,
            None => self.limiter.attempt(caller.client().limited_as, &user.email)?,
        };
        check_length(field, &password)?;
        let hash = Some(user.password_hash.clone());
        if self.passwords.verify(password, hash).await? {
            return Ok(());
        }
        let principal = &caller.principal;
        let subject = Subject { kind: "member", id: principal.id.0 };
        let audit = caller.audit("session.refuse", subject, &NO_DETAIL, self.clock.now());
        self.store.system().append_audit(vec![audit]).await?;
        Err(ServiceError::Forbidden {
            code: "wrong_password",
            detail: "the password is wrong".into(),
        })
    }
}

/// A password that a signed-in person gives again.
pub(super) struct Proof<'a> {
    pub caller: &'a Caller,
    pub password: Zeroizing<String>,
    pub user: &'a user::Model,
    /// Which field it is.
    pub field: &'static str,
}

/// The entry of a session that its own person ends.
pub(super) fn end_of(caller: &Caller, id: SessionId, now: Timestamp) -> audit_entry::Model {
    let subject = Subject { kind: "session", id: id.0 };
    caller.audit("session.revoke", subject, &json!({}), now)
}

/// A password that is too long to be one is not hashed.
fn check_length(field: &str, password: &str) -> Result<()> {
    if password.len() <= MAX_PASSWORD_BYTES {
        return Ok(());
    }
    let limit = MAX_PASSWORD_BYTES as u64;
    Err(ServiceError::InvalidField {
        detail: format!("`{field}` must have at most {limit} bytes"),
        error: FieldError::with_limit(field, FieldErrorCode::TooLarge, limit),
    })
}
