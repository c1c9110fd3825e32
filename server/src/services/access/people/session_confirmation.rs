//! A person who is signed in proves itself again: by the password, or by a code of the second factor.

use serde_json::json;
use zeroize::Zeroizing;

use super::confirmation::require_session;
use super::sign_in::{Proof, SignIn};
use crate::domain::access::people::totp::TypedCode;
use crate::domain::time::Timestamp;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{LiveUserSession, UsedFactor};

/// What a person proves itself with.
pub enum GivenProof {
    Password(Zeroizing<String>),
    /// Six digits of the device.
    Code(Zeroizing<String>),
}

impl SignIn {
    /// Records that the caller proved itself again.
    ///
    /// # Errors
    /// 403 `session_required` for an API key, 403 `wrong_password`, `wrong_second_factor`, 409
    /// `second_factor_missing`; [`ServiceError::RateLimited`].
    pub async fn confirm(&self, caller: &Caller, given: GivenProof) -> Result<Timestamp> {
        let live = require_session(&self.store, caller).await?;
        let (factor, detail) = match given {
            GivenProof::Password(password) => {
                let user = &live.user;
                self.prove(Proof { caller, password, user, field: "password" }).await?;
                (None, json!({}))
            }
            GivenProof::Code(typed) => {
                let factor = self.prove_by_code(caller, &live, &typed).await?;
                (Some((live.user.id, factor)), json!({"second_factor": "totp"}))
            }
        };
        let now = self.clock.now();
        let subject = Subject { kind: "session", id: live.session.id.0 };
        let audit = caller.audit("session.confirm", subject, &detail, now);
        match self.store.system().confirm_session(live.session.id, factor, now, audit).await? {
            true => Ok(now),
            false => Err(self.refuse_code(caller).await?),
        }
    }

    /// A recovery code does not count: it is for a sign-in without the device.
    async fn prove_by_code(
        &self,
        caller: &Caller,
        live: &LiveUserSession,
        typed: &str,
    ) -> Result<UsedFactor> {
        let secret = self.store.system().totp_secret(live.user.id).await?;
        if secret.is_none_or(|secret| secret.confirmed_at.is_none()) {
            return Err(ServiceError::Conflict {
                code: "second_factor_missing",
                detail: "you have no second factor; give the password".into(),
            });
        }
        self.own_attempts.in_session_of(live.user.id)?;
        let factor = match TypedCode::read(typed) {
            Some(TypedCode::Totp(_)) => self.factor(&live.user, typed, self.clock.now()).await?,
            Some(TypedCode::Recovery(_)) | None => None,
        };
        match factor {
            Some((factor, _)) => Ok(factor),
            None => Err(self.refuse_code(caller).await?),
        }
    }

    async fn refuse_code(&self, caller: &Caller) -> Result<ServiceError> {
        let subject = Subject { kind: "member", id: caller.principal.id.0 };
        let detail = json!({"second_factor": "totp"});
        let audit = caller.audit("session.refuse", subject, &detail, self.clock.now());
        self.store.system().append_audit(vec![audit]).await?;
        Ok(ServiceError::Forbidden {
            code: "wrong_second_factor",
            detail:
                "the code is wrong, or was used before; wait for the next one, or give the password"
                    .into(),
        })
    }
}
