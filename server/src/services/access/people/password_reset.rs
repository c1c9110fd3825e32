//! A new password for a person who forgot it, by a token that is sent to the address.

use std::num::NonZeroU32;

use muster_protocol::parameter::secret::is_well_formed;
use serde_json::json;
use zeroize::Zeroizing;

use super::passwords::Passwords;
use super::setup::password_problem;
use super::sign_in::limiter::SignInLimiter;
use crate::domain::access::credential::{NewSecret, PASSWORD_RESET_PREFIX, SecretHash};
use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::people::password::check_password;
use crate::domain::time::Clock;
use crate::services::access::caller::{AuditAction, Client, Subject};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::keys::lookup_limiter::LookupLimiter;
use crate::services::access::mails::{Letter, Mails, RESET_MS};
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::{password_reset, user};
use crate::store::queries::{NewPassword, PasswordReset};

/// Requests per minute, and at once: from one address, and for one account.
pub(in crate::services) const RESETS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(5).unwrap();

const INVALID: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_reset_token",
    detail: "the token was used, or has expired; request another one with `muster reset-password`",
};

/// Use cases of new passwords.
#[derive(Debug, Clone)]
pub struct PasswordResets {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) passwords: Passwords,
    pub(in crate::services) mails: Mails,
    pub(in crate::services) lookups: LookupLimiter,
    pub(in crate::services) limiter: SignInLimiter,
}

/// A token that was valid when it was read.
pub struct OpenReset {
    hash: SecretHash,
    user: user::Model,
}

impl PasswordResets {
    /// Sends a token to the address if a person has it. Neither answer nor time shows which.
    ///
    /// # Errors
    /// 409 `mail_not_configured`, 422 for the address; [`ServiceError::RateLimited`].
    pub async fn request(&self, client: &Client, email: &str) -> Result<()> {
        self.mails.require()?;
        let email = EmailAddress::parse(email)
            .map_err(|problem| ServiceError::invalid_field("email", &problem.to_string()))?;
        self.limiter.attempt(client.limited_as, email.as_str())?;
        let user = self.store.system().user(email.as_str()).await?;
        // A person who only signs in with a provider gets no password by mail: that would outlast the provider.
        let user = user.filter(|user| !user.password_hash.is_empty());
        let secret = NewSecret::random(PASSWORD_RESET_PREFIX)?;
        let now = self.clock.now();
        let token_hash = secret.hash.0.to_vec();
        let row = user.map(|user| password_reset::Model {
            token_hash,
            user_id: user.id,
            expires_at: now.plus_ms(RESET_MS),
        });
        let token = Zeroizing::new(secret.secret);
        let letter = Letter::PasswordReset { token: &token };
        let mail = self.mails.compose(email.as_str(), &letter)?;
        let reset = PasswordReset { row, mail, decoy: self.mails.decoy(&letter)? };
        self.store.system().request_password_reset(reset, now).await?;
        self.mails.wake();
        Ok(())
    }

    /// Checks a token. [`Self::complete`] checks it again, in the transaction that uses it.
    ///
    /// # Errors
    /// 401 `invalid_reset_token`; [`ServiceError::TooMany`] if the source presents too many wrong tokens.
    pub async fn check_token(&self, client: &Client, token: &str) -> Result<OpenReset> {
        if client.limited_as.is_some_and(|source| !self.lookups.may_look_up(source)) {
            return Err(ServiceError::TooMany {
                code: "too_many_unknown_keys",
                detail: "too many unknown keys were sent from this address; check the key and try again later",
            });
        }
        let now = self.clock.now();
        if is_well_formed(token, PASSWORD_RESET_PREFIX) {
            let hash = SecretHash::of(token);
            let found = self.store.system().password_reset(hash, now).await?;
            // A later one is of a clock that was ahead.
            let found = found.filter(|(row, _)| row.expires_at <= now.plus_ms(RESET_MS));
            if let Some((_, user)) = found {
                return Ok(OpenReset { hash, user });
            }
        }
        client.limited_as.inspect(|source| self.lookups.record_failure(*source));
        Err(INVALID)
    }

    /// Sets a new password, signs the person out everywhere, and removes its identities.
    ///
    /// # Errors
    /// 401 `invalid_reset_token`; 422 for a password that is not good enough.
    pub async fn complete(
        &self,
        client: &Client,
        open: OpenReset,
        password: Zeroizing<String>,
    ) -> Result<()> {
        let OpenReset { hash, user } = open;
        let email = EmailAddress::parse(&user.email).map_err(|_| INVALID)?;
        check_password(&password, &email)
            .map_err(|problem| password_problem("password", problem))?;
        let password_hash = self.passwords.hash(password).await?;
        let now = self.clock.now();
        let memberships = self.store.system().memberships(user.id).await?;
        let audits = memberships.iter().map(|(member, tenant)| {
            let action = AuditAction {
                tenant_id: tenant.id,
                action: "member.update",
                subject: Subject { kind: "member", id: member.id.0 },
                detail: &json!({"changed": ["password"], "by": "password_reset"}),
                at: now,
            };
            action.by_member(member.id, None, client)
        });
        let new = NewPassword {
            token: hash,
            user_id: user.id,
            password_hash,
            audits: audits.collect(),
            notice: self.mails.notice(&user.email, &Letter::PasswordChanged)?,
        };
        if !self.store.system().reset_password(new, now).await? {
            return Err(INVALID);
        }
        self.cache.forget_principals();
        self.mails.wake();
        Ok(())
    }
}
