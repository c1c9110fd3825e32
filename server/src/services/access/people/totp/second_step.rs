//! The second step of a sign-in: the code.

use serde_json::json;
use zeroize::Zeroizing;

use crate::domain::access::people::totp::TypedCode;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Client;
use crate::services::access::people::session_start::SessionStart;
use crate::services::access::people::sign_in::challenge::SignInChallenge;
use crate::services::access::people::sign_in::{SignIn, SignedIn};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::{member, tenant, user};
use crate::store::queries::{LiveUserSession, UsedFactor};

const INVALID: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_challenge",
    detail: "the sign-in was completed before, or has expired; start again with the password",
};
const WRONG: ServiceError = ServiceError::Unauthenticated {
    code: "wrong_second_factor",
    detail: "the code is wrong, or was used before; wait for the next one, or use a recovery code",
};

impl SignIn {
    /// Completes a sign-in with a code of the device or a recovery code.
    ///
    /// # Errors
    /// 401 `invalid_challenge`, `wrong_second_factor`; [`ServiceError::RateLimited`].
    pub async fn complete_sign_in(
        &self,
        client: &Client,
        challenge: &str,
        typed: Zeroizing<String>,
    ) -> Result<SignedIn> {
        let now = self.clock.now();
        let challenge = SignInChallenge::open(challenge, &self.secret_box, now).ok_or(INVALID)?;
        let user = self.store.system().person(challenge.user_id).await?;
        let user = user.filter(|user| challenge.is_of(user, &self.secret_box)).ok_or(INVALID)?;
        let memberships = self.store.system().memberships(user.id).await?;
        let chosen = memberships.iter().find(|(member, _)| member.id == challenge.member_id);
        let (member, tenant) = chosen.ok_or(INVALID)?;
        let known = self.own_attempts.check_known(client.limited_as, &user.email);
        known.unwrap_or_else(|| self.limiter.attempt(client.limited_as, &user.email))?;
        let Some((factor, name)) = self.factor(&user, &typed, now).await? else {
            self.record_failure(client, &memberships).await?;
            return Err(WRONG);
        };
        let start = SessionStart {
            id: challenge.session_id,
            factor: Some(factor),
            detail: json!({"second_factor": name}),
            ..SessionStart::confirmed(now)
        };
        let made = self.begin(client, &user, (member, tenant), start).await;
        if matches!(made, Err(ServiceError::Unauthenticated { code: "wrong_second_factor", .. })) {
            self.record_failure(client, &memberships).await?;
        }
        made.inspect(|_| self.own_attempts.remember(client.limited_as, &user.email))
    }

    /// Uses up a code of a person who has a second factor. Others need none, and neither does one who just
    /// confirmed the session with a passkey.
    ///
    /// # Errors
    /// 403 `code_required` without a code; 422 `wrong_code`; [`ServiceError::RateLimited`].
    pub(in crate::services) async fn require_factor(
        &self,
        live: &LiveUserSession,
        typed: Option<Zeroizing<String>>,
    ) -> Result<()> {
        let (system, user) = (self.store.system(), &live.user);
        if live.session.confirmed_by_passkey {
            return Ok(());
        }
        let secret = system.totp_secret(user.id).await?;
        let has_totp = secret.is_some_and(|secret| secret.confirmed_at.is_some());
        if !has_totp && system.passkeys(user.id).await?.is_empty() {
            return Ok(());
        }
        let typed = typed.ok_or_else(|| ServiceError::Forbidden {
            code: "code_required",
            detail: "this needs a code of your device, a recovery code, or a session that you confirm with a passkey".into(),
        })?;
        let factor = self.factor(user, &typed, self.clock.now()).await?;
        let is_used = match factor {
            Some((factor, _)) => system.use_factor(user.id, factor).await?,
            None => false,
        };
        is_used.then_some(()).ok_or_else(|| ServiceError::Invalid {
            code: "wrong_code",
            detail: "the code is wrong, or was used before; wait for the next one, or use a recovery code".into(),
        })
    }

    async fn begin(
        &self,
        client: &Client,
        user: &user::Model,
        membership: (&member::Model, &tenant::Model),
        start: SessionStart,
    ) -> Result<SignedIn> {
        match self.create_session(client, user, membership, start).await {
            // The code was used, the sign-in completed, or the password changed, since they were checked.
            Err(ServiceError::Unauthenticated { code: "session_ended", .. }) => Err(WRONG),
            made => made,
        }
    }

    /// What the person typed, if it is right now. It is used up with the session that it begins.
    pub(in crate::services::access::people) async fn factor(
        &self,
        user: &user::Model,
        typed: &str,
        now: Timestamp,
    ) -> Result<Option<(UsedFactor, &'static str)>> {
        Ok(match TypedCode::read(typed) {
            // Too many to guess: they still count after too many wrong codes of six digits.
            Some(TypedCode::Recovery(hash)) => Some((UsedFactor::Recovery(hash), "recovery_code")),
            Some(TypedCode::Totp(code)) => {
                let Some(row) = self.counted_try(user.id).await? else { return Ok(None) };
                let step = self.step_of(&row, &code, now).filter(|_| row.confirmed_at.is_some());
                step.map(|step| (UsedFactor::Totp { sealed: row.sealed, step }, "totp"))
            }
            None => None,
        })
    }
}
