//! Passkeys: people sign in with a key pair of a device, which verified them. That counts as password and
//! second factor.

mod ceremony;
mod ownership;

use std::num::NonZeroU32;

use governor::Quota;
use serde_json::json;
use zeroize::Zeroizing;

pub use self::ceremony::MAX_PASSKEY_CHALLENGE_BYTES;
use self::ceremony::{Ceremony, Purpose};
use super::attempt_limiter::{AttemptLimiter, Refusal};
use super::confirmation::require_session;
use super::session_start::SessionStart;
use super::sign_in::{SignIn, SignedIn};
use crate::adapters::passkey_verifier::{PasskeyError, PasskeyVerifier};
use crate::domain::access::credential::NoRandomness;
use crate::domain::access::people::passkey::{NewPasskeyOptions, PasskeyAssertion};
use crate::domain::ids::{SessionId, TenantId, UserId};
use crate::domain::source::ClientSource;
use crate::domain::time::Timestamp;
use crate::services::access::caller::{Caller, Client, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::passkey;
use crate::store::queries::{PasskeyUse, UsedFactor};

/// Sign-ins with a passkey that one address may begin, and complete, in a minute. Guesses are hopeless: this
/// bounds the work of checking signatures.
const PASSKEY_SIGN_INS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();

const INVALID: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_challenge",
    detail: "the challenge was used before, or has expired; start again",
};
const WRONG: ServiceError = ServiceError::Unauthenticated {
    code: "wrong_passkey",
    detail: "the passkey is not known here, or was removed; sign in with the password",
};

/// Use cases of passkeys.
#[derive(Debug, Clone)]
pub struct Passkeys {
    sign_in: SignIn,
    /// `None` if the server has no address that browsers make passkeys for.
    verifier: Option<PasskeyVerifier>,
    limiter: AttemptLimiter<ClientSource>,
}

/// What a browser needs to use a passkey.
pub struct AskedPasskey {
    pub challenge: Zeroizing<String>,
    pub host: String,
    pub nonce: Vec<u8>,
    pub expires_at: Timestamp,
}

/// What a browser needs to make one.
pub struct AskedNewPasskey {
    pub challenge: Zeroizing<String>,
    pub options: NewPasskeyOptions,
    pub user_id: UserId,
    pub email: String,
    pub name: String,
    /// The devices that have one already.
    pub known: Vec<Vec<u8>>,
    pub expires_at: Timestamp,
}

/// A passkey that was used just now.
struct VerifiedPasskey {
    row: passkey::Model,
    used: PasskeyUse,
    /// The session that it can begin.
    session_id: SessionId,
    begun_at: Timestamp,
}

impl Passkeys {
    pub(in crate::services) fn new(sign_in: SignIn, verifier: Option<PasskeyVerifier>) -> Self {
        let refusal = Refusal {
            code: "too_many_attempts",
            detail: "too many sign-ins came from this address; wait a moment",
        };
        let limiter = AttemptLimiter::new(Quota::per_minute(PASSKEY_SIGN_INS_PER_MINUTE), refusal);
        Self { sign_in, verifier, limiter }
    }

    /// Whether browsers make passkeys for this server.
    pub fn are_possible(&self) -> bool {
        self.verifier.is_some()
    }

    fn verifier(&self) -> Result<&PasskeyVerifier> {
        self.verifier.as_ref().ok_or_else(|| ServiceError::Conflict {
            code: "public_url_required",
            detail: "passkeys belong to a name with TLS: the operator has to set `public_url` to an address such as https://muster.example.com".into(),
        })
    }

    /// Begins to use any passkey: to sign in, or to confirm a session.
    ///
    /// # Errors
    /// 409 `public_url_required`; [`ServiceError::RateLimited`].
    pub fn ask(&self, client: &Client) -> Result<AskedPasskey> {
        client.limited_as.map_or(Ok(()), |source| self.limiter.attempt(&source))?;
        let (options, state) = self.verifier()?.ask().map_err(unexpected)?;
        let purpose = Purpose::Use(SessionId::new());
        let begun = Ceremony { purpose, state, begun_at: self.sign_in.clock.now() };
        Ok(AskedPasskey {
            challenge: begun.seal(&self.sign_in.secret_box)?,
            host: options.host,
            nonce: options.nonce,
            expires_at: begun.expires_at(),
        })
    }

    /// Signs a person in with what a device signed. `tenant_id`: by default the first tenant that the person
    /// is a member of.
    ///
    /// # Errors
    /// 401 `invalid_challenge`, `wrong_passkey`; 409 `public_url_required`; [`ServiceError::RateLimited`].
    pub async fn sign_in(
        &self,
        client: &Client,
        challenge: &str,
        assertion: &PasskeyAssertion,
        tenant_id: Option<TenantId>,
    ) -> Result<SignedIn> {
        client.limited_as.map_or(Ok(()), |source| self.limiter.attempt(&source))?;
        let verified = self.verified(challenge, assertion).await;
        let VerifiedPasskey { row, used, session_id, .. } = match verified {
            Err(refusal @ ServiceError::Unauthenticated { code: "wrong_passkey", .. }) => {
                self.sign_in.record_failure(client, &[]).await?;
                return Err(refusal);
            }
            verified => verified?,
        };
        let system = self.sign_in.store.system();
        let user = system.person(row.user_id).await?.ok_or(WRONG)?;
        let memberships = system.memberships(user.id).await?;
        let mut wanted = memberships.iter();
        let chosen = wanted.find(|(member, _)| tenant_id.is_none_or(|id| member.tenant_id == id));
        let Some((member, tenant)) = chosen else {
            self.sign_in.record_failure(client, &memberships).await?;
            return Err(WRONG);
        };
        let start = SessionStart {
            id: session_id,
            factor: Some(UsedFactor::Passkey(used)),
            by_passkey: true,
            detail: json!({"second_factor": "passkey", "passkey_id": row.id}),
            ..SessionStart::confirmed(self.sign_in.clock.now())
        };
        match self.sign_in.create_session(client, &user, (member, tenant), start).await {
            // The challenge or the count was used, the passkey removed, or the password changed meanwhile.
            Err(ServiceError::Unauthenticated { code: "session_ended", .. }) => Err(INVALID),
            made => made,
        }
    }

    /// Checks what a device signed, against the stored passkey.
    async fn verified(
        &self,
        challenge: &str,
        assertion: &PasskeyAssertion,
    ) -> Result<VerifiedPasskey> {
        let (verifier, now) = (self.verifier()?, self.sign_in.clock.now());
        let begun = Ceremony::open(challenge, &self.sign_in.secret_box, now).ok_or(INVALID)?;
        let Purpose::Use(session_id) = begun.purpose else { return Err(INVALID) };
        let row = self.sign_in.store.system().passkey_of_device(&assertion.credential_id).await?;
        // The device also says whose passkey it is.
        let is_of = |row: &passkey::Model| row.user_id.0.as_bytes() == &assertion.user_handle[..];
        let row = row.filter(is_of).ok_or(WRONG)?;
        let used = verifier.used(&begun.state, assertion, &row.credential).map_err(|error| {
            tracing::debug!(passkey = %row.id, %error, "a device signed something else");
            WRONG
        })?;
        let used = PasskeyUse {
            id: row.id,
            credential: used.credential,
            sign_count: used.sign_count.into(),
            at: now,
        };
        Ok(VerifiedPasskey { row, used, session_id, begun_at: begun.begun_at })
    }

    /// Records that the caller proved itself again, when the device was asked: a signature that is sent
    /// again confirms nothing for longer.
    ///
    /// # Errors
    /// 403 `session_required` for an API key, `wrong_passkey`; 401 `invalid_challenge`; 409
    /// `public_url_required`; [`ServiceError::RateLimited`].
    pub async fn confirm(
        &self,
        caller: &Caller,
        challenge: &str,
        assertion: &PasskeyAssertion,
    ) -> Result<Timestamp> {
        let live = require_session(&self.sign_in.store, caller).await?;
        self.sign_in.own_attempts.in_session_of(live.user.id)?;
        let verified = match self.verified(challenge, assertion).await {
            Err(ServiceError::Unauthenticated { code: "wrong_passkey", .. }) => None,
            verified => Some(verified?).filter(|verified| verified.row.user_id == live.user.id),
        };
        let (system, detail) = (self.sign_in.store.system(), json!({"second_factor": "passkey"}));
        let now = self.sign_in.clock.now();
        if let Some(VerifiedPasskey { used, begun_at, .. }) = verified {
            let subject = Subject { kind: "session", id: live.session.id.0 };
            let audit = caller.audit("session.confirm", subject, &detail, now);
            let factor = Some((live.user.id, UsedFactor::Passkey(used)));
            if system.confirm_session(live.session.id, factor, begun_at, audit).await? {
                return Ok(begun_at);
            }
        }
        let subject = Subject { kind: "member", id: caller.principal.id.0 };
        let audit = caller.audit("session.refuse", subject, &detail, now);
        system.append_audit(vec![audit]).await?;
        Err(ServiceError::Forbidden {
            code: "wrong_passkey",
            detail: "this is no passkey of your account; use another one, or give the password"
                .into(),
        })
    }
}

/// Asking a device fails only without random numbers.
fn unexpected(error: PasskeyError) -> ServiceError {
    tracing::error!(%error, "failed to ask for a passkey");
    ServiceError::Randomness(NoRandomness)
}
