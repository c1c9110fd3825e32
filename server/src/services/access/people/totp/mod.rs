//! The second factor of people: they enrol a device, and are asked for its codes at each sign-in with a
//! password.

pub mod reset;
mod second_step;

use serde_json::json;
use zeroize::Zeroizing;

use super::account::entries_of_other_tenants;
use super::confirmation::{require_confirmed, require_session};
use super::sign_in::SignIn;
use crate::domain::access::allowance::Allowance;
use crate::domain::access::people::totp::{MAX_TOTP_TRIES, RecoveryCodes, TotpSecret, TypedCode};
use crate::domain::ids::{TenantId, UserId};
use crate::domain::time::Timestamp;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::mails::Letter;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::{audit_entry, totp_secret};
use crate::store::queries::{LiveUserSession, ReportedChange, TotpTry};

/// What a sealed secret is the secret of.
pub(in crate::services) const FIELD: &str = "totp_secret";
const NO_TENANT: TenantId = TenantId(uuid::Uuid::nil());
const NO_TOTP: ServiceError = ServiceError::NotFound("second factor");

/// Use cases of the second factor.
#[derive(Debug, Clone, Copy)]
pub struct SecondFactor<'a>(pub &'a SignIn);

/// The second factor of a person.
#[derive(Debug, Clone, Copy)]
pub struct TotpState {
    /// Since when codes are asked for.
    pub enabled_at: Option<Timestamp>,
    pub recovery_codes_left: u64,
}

/// A secret that waits for its first code. Show it once, then drop it.
pub struct EnrolledTotp {
    pub secret: Zeroizing<String>,
    pub otpauth_url: Zeroizing<String>,
}

impl SecondFactor<'_> {
    /// The second factor of the caller.
    ///
    /// # Errors
    /// 403 `session_required` for an API key.
    pub async fn state(&self, caller: &Caller) -> Result<TotpState> {
        let live = require_session(&self.0.store, caller).await?;
        let system = self.0.store.system();
        let secret = system.totp_secret(live.user.id).await?;
        Ok(TotpState {
            enabled_at: secret.and_then(|secret| secret.confirmed_at),
            recovery_codes_left: system.recovery_codes_left(live.user.id).await?,
        })
    }

    /// Makes a secret for a device. It counts after [`Self::confirm`].
    ///
    /// # Errors
    /// 403 for an API key and without a recent proof of the password; 409 `totp_enabled`.
    pub async fn enrol(&self, caller: &Caller) -> Result<EnrolledTotp> {
        let live = require_confirmed(&self.0.store, &self.0.clock, caller).await?;
        let secret = TotpSecret::random()?;
        let now = self.0.clock.now();
        let row = totp_secret::Model {
            user_id: live.user.id,
            sealed: self.0.secret_box.seal(NO_TENANT, FIELD, secret.bytes())?,
            created_at: now,
            confirmed_at: None,
            last_step: 0,
            tries: 0,
            tried_since: now,
        };
        let audit = self.audit(caller, &live, "totp.create");
        if !self.0.store.system().enrol_totp(row, audit).await? {
            return Err(ServiceError::Conflict {
                code: "totp_enabled",
                detail: "the second factor is enabled already; disable it first, to enrol another device".into(),
            });
        }
        let otpauth_url = secret.url(&live.user.email);
        Ok(EnrolledTotp { secret: secret.text(), otpauth_url })
    }

    /// Enables the second factor with the first code of the device, and ends the person's other sessions, which
    /// began without it. Returns the recovery codes.
    ///
    /// # Errors
    /// 403 `session_required` for an API key; 404 without a secret that waits; 422 `wrong_code`;
    /// [`ServiceError::RateLimited`].
    pub async fn confirm(
        &self,
        caller: &Caller,
        typed: Zeroizing<String>,
    ) -> Result<Vec<Zeroizing<String>>> {
        let live = require_session(&self.0.store, caller).await?;
        let now = self.0.clock.now();
        let secret = self.0.store.system().totp_secret(live.user.id).await?;
        secret.filter(|secret| secret.confirmed_at.is_none()).ok_or(NO_TOTP)?;
        let row = self.0.counted_try(live.user.id).await?.ok_or(NO_TOTP)?;
        let code = match TypedCode::read(&typed) {
            Some(TypedCode::Totp(code)) => Some(code),
            _ => None,
        };
        let step = code.and_then(|code| self.0.step_of(&row, &code, now));
        let step = step.ok_or_else(|| ServiceError::Invalid {
            code: "wrong_code",
            detail: "the code is wrong; check the clock of the device, and type its present code"
                .into(),
        })?;
        let codes = RecoveryCodes::random()?;
        let letter = Letter::SecondFactorEnabled;
        let reported = self.reported(caller, &live, "totp.enable", &letter).await?;
        let (system, used) = (self.0.store.system(), (row.sealed, step));
        if !system.confirm_totp(live.user.id, used, codes.hashes, now, reported).await? {
            return Err(NO_TOTP);
        }
        // What the person may do in a tenant that requires it has changed.
        self.0.cache.forget_principals();
        self.0.mails.wake();
        Ok(codes.texts)
    }

    /// Replaces the recovery codes.
    ///
    /// # Errors
    /// 403 for an API key, without a recent proof of the password, and `code_required` without a
    /// code; 404 without a second factor; 422 `wrong_code`; [`ServiceError::RateLimited`].
    pub async fn replace_recovery_codes(
        &self,
        caller: &Caller,
        code: Option<Zeroizing<String>>,
    ) -> Result<Vec<Zeroizing<String>>> {
        let live = require_confirmed(&self.0.store, &self.0.clock, caller).await?;
        self.0.require_factor(&live, code).await?;
        let codes = RecoveryCodes::random()?;
        let audit = self.audit(caller, &live, "totp.update");
        let system = self.0.store.system();
        match system.replace_recovery_codes(live.user.id, codes.hashes, audit).await? {
            true => Ok(codes.texts),
            false => Err(NO_TOTP),
        }
    }

    /// Disables the second factor.
    ///
    /// # Errors
    /// 403 for an API key, without a recent proof of the password, and `code_required` without a
    /// code; 404 without a second factor; 422 `wrong_code`; [`ServiceError::RateLimited`].
    pub async fn disable(&self, caller: &Caller, code: Option<Zeroizing<String>>) -> Result<()> {
        let live = require_confirmed(&self.0.store, &self.0.clock, caller).await?;
        self.0.require_factor(&live, code).await?;
        let letter = Letter::SecondFactorDisabled;
        let reported = self.reported(caller, &live, "totp.disable", &letter).await?;
        if !self.0.store.system().disable_totp(live.user.id, reported).await? {
            return Err(NO_TOTP);
        }
        self.0.cache.forget_principals();
        self.0.mails.wake();
        Ok(())
    }

    /// The entries of a change in all tenants of the person, and the mail about it.
    async fn reported(
        &self,
        caller: &Caller,
        live: &LiveUserSession,
        action: &'static str,
        letter: &Letter<'_>,
    ) -> Result<ReportedChange> {
        let detail = json!({"changed": ["second_factor"]});
        let mut audits = vec![self.audit(caller, live, action)];
        let now = self.0.clock.now();
        audits.extend(entries_of_other_tenants(&self.0.store, live, &detail, now).await?);
        let notice = self.0.mails.notice(&live.user.email, letter)?;
        Ok(ReportedChange { audits, notice })
    }

    fn audit(
        &self,
        caller: &Caller,
        live: &LiveUserSession,
        action: &'static str,
    ) -> audit_entry::Model {
        let subject = Subject { kind: "member", id: live.member.id.0 };
        caller.audit(action, subject, &json!({}), self.0.clock.now())
    }
}

impl SignIn {
    /// Counts a try of a code; `None` if the person has no secret.
    async fn counted_try(&self, user_id: UserId) -> Result<Option<totp_secret::Model>> {
        match self.store.system().try_totp(user_id, self.clock.now()).await? {
            TotpTry::Counted(row) => Ok(Some(row)),
            TotpTry::NoSecret => Ok(None),
            TotpTry::Wait(wait_ms) => Err(ServiceError::RateLimited {
                code: "too_many_attempts",
                detail: "too many wrong codes were typed; wait, or sign in with a recovery code",
                allowance: Allowance {
                    limit: MAX_TOTP_TRIES.unsigned_abs(),
                    remaining: 0,
                    wait_s: wait_ms.div_ceil(1_000).max(1),
                },
            }),
        }
    }

    /// The step of a code that counts and was not used.
    fn step_of(&self, row: &totp_secret::Model, code: &str, now: Timestamp) -> Option<i64> {
        let opened = self.secret_box.open(NO_TENANT, FIELD, &row.sealed);
        let opened = opened.inspect_err(|_| {
            tracing::error!(user = %row.user_id, "the secret of a second factor does not open with the master key");
        });
        let secret = TotpSecret::from_bytes(opened.ok()?);
        secret.step_of(code, now).filter(|step| *step > row.last_step)
    }
}
