//! A person changes the address, after the new one is verified.

use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::account::entries_of_other_tenants;
use super::confirmation::{require_confirmed, require_session};
use super::sign_in::limiter::SignInLimiter;
use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::people::verification_code::{CODE_MS, VerificationCode, presented_hash};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::{Clock, Timestamp};
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::mails::{Letter, Mails};
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::email_change;
use crate::store::queries::{EmailChanged, Letters, NewEmail};

/// Use cases of new addresses.
#[derive(Debug, Clone)]
pub struct EmailChanges {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) mails: Mails,
    pub(in crate::services) limiter: SignInLimiter,
}

impl EmailChanges {
    /// Sends a code to the new address, or a notice if another person has it. Returns when the code
    /// expires.
    ///
    /// # Errors
    /// 403 for an API key and without a recent proof of the password; 409 `mail_not_configured`; 422 for the
    /// address; [`ServiceError::RateLimited`].
    pub async fn request(&self, caller: &Caller, email: &str) -> Result<Timestamp> {
        let live = require_confirmed(&self.store, &self.clock, caller).await?;
        self.mails.require()?;
        let email = EmailAddress::parse(email)
            .map_err(|problem| ServiceError::invalid_field("email", &problem.to_string()))?;
        if email.as_str() == live.user.email {
            return Err(ServiceError::invalid_field("email", "is your address already"));
        }
        self.limiter.attempt(caller.client().limited_as, &live.user.email)?;
        let (code, request_id, now) =
            (VerificationCode::random()?, Uuid::now_v7(), self.clock.now());
        let row = email_change::Model {
            user_id: live.user.id,
            request_id,
            email: email.to_string(),
            code_hash: code.hash(&self.secret_box, request_id).to_vec(),
            tries: 0,
            tried_since: now,
            is_known: false,
            expires_at: now.plus_ms(CODE_MS),
        };
        let expires_at = row.expires_at;
        let letter = Letter::EmailCode { code: code.text() };
        let letters = Letters {
            code: self.mails.compose(email.as_str(), &letter)?,
            in_use: self.mails.compose(email.as_str(), &Letter::AddressInUse)?,
            decoy: self.mails.decoy(&letter)?,
        };
        self.store.system().request_email_change(row, letters, now).await?;
        self.mails.wake();
        Ok(expires_at)
    }

    /// Changes the address with the right code, and notifies the old one.
    ///
    /// # Errors
    /// 403 `session_required` for an API key, 422 `wrong_code`.
    pub async fn verify(&self, caller: &Caller, code: Zeroizing<String>) -> Result<()> {
        let live = require_session(&self.store, caller).await?;
        let now = self.clock.now();
        let wanted = self.store.system().email_change(live.user.id).await?;
        let (request_id, email) =
            wanted.map_or((Uuid::nil(), String::new()), |row| (row.request_id, row.email));
        let subject = Subject { kind: "member", id: live.member.id.0 };
        let detail = json!({"changed": ["email"], "email": email});
        let mut audits = vec![caller.audit("member.update", subject, &detail, now)];
        audits.extend(entries_of_other_tenants(&self.store, &live, &detail, now).await?);
        let new = NewEmail {
            user_id: live.user.id,
            presented: presented_hash(&self.secret_box, request_id, &code),
            audits,
            notice: self.mails.notice(&live.user.email, &Letter::EmailChanged { new: &email })?,
        };
        match self.store.system().change_email(new, now).await? {
            EmailChanged::Changed => {}
            EmailChanged::Invalid => {
                return Err(ServiceError::Invalid {
                    code: "wrong_code",
                    detail: "the code is wrong or has expired, or was tried too often; request another one".into(),
                });
            }
        }
        self.cache.forget_principals();
        self.mails.wake();
        Ok(())
    }
}
