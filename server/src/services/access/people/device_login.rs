//! Device-style sign-in (RFC 8628): a program asks for a code, a person who is signed in elsewhere approves
//! it, and the program exchanges its secret for a session.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use muster_protocol::parameter::secret::is_well_formed;
use serde_json::json;
use zeroize::Zeroizing;

use super::attempt_limiter::{AttemptLimiter, Refusal};
use super::confirmation::{require_confirmed, require_session};
use super::session_start::SessionStart;
use super::sign_in::{SignIn, SignedIn};
use crate::domain::access::credential::{DEVICE_CODE_PREFIX, NewSecret, SecretHash};
use crate::domain::access::people::user_code::UserCode;
use crate::domain::access::records::DeviceLoginRecord;
use crate::domain::ids::{DeviceLoginId, PrincipalId, SessionId};
use crate::domain::name::clean;
use crate::domain::source::ClientSource;
use crate::domain::time::Timestamp;
use crate::services::access::caller::{Caller, Client, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::device_login;

/// How long a code is valid: 10 minutes.
pub const DEVICE_LOGIN_MS: u64 = 10 * 60_000;
/// How long a program waits between two requests for its session.
pub const POLL_INTERVAL_S: u64 = 5;
/// Shortest time between them, after the first three.
const MIN_POLL_INTERVAL: Duration = Duration::from_secs(4);
const POLL_BURST: NonZeroU32 = NonZeroU32::new(3).unwrap();
/// Sign-ins of programs that may start in a minute from one address.
const DEVICE_LOGINS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Codes that a person may try in a minute.
const USER_CODES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Characters that are kept of what a program reports about itself.
const MAX_USER_AGENT_CHARS: usize = 200;

const EXPIRED: ServiceError = ServiceError::Gone {
    code: "expired_token",
    detail: "the sign-in has expired or was completed before; start again",
};
const PENDING: &str = "the sign-in is not approved yet; ask again after the interval";
const DENIED: &str = "the sign-in was refused, or the session that approved it has ended";
const UNKNOWN: ServiceError = ServiceError::NotFound("code");

/// The use cases of device-style sign-in.
#[derive(Debug, Clone)]
pub struct DeviceLogins {
    sign_in: SignIn,
    starts: AttemptLimiter<ClientSource>,
    tries: AttemptLimiter<PrincipalId>,
    polls: AttemptLimiter<DeviceLoginId>,
}

/// A sign-in with its codes, which are shown only once.
pub struct StartedDeviceLogin {
    pub device_code: Zeroizing<String>,
    pub user_code: String,
}

impl DeviceLogins {
    pub(in crate::services) fn new(sign_in: SignIn) -> Self {
        let starts = Refusal {
            code: "too_many_attempts",
            detail: "too many sign-ins were started from this address; wait a moment",
        };
        let tries = Refusal {
            code: "too_many_attempts",
            detail: "you tried too many codes; wait a moment",
        };
        let polls = Refusal {
            code: "slow_down",
            detail: "the program asks too often; wait 5 seconds longer between two requests",
        };
        let poll_quota = Quota::with_period(MIN_POLL_INTERVAL)
            .unwrap_or_else(|| Quota::per_second(POLL_BURST))
            .allow_burst(POLL_BURST);
        Self {
            sign_in,
            starts: AttemptLimiter::new(Quota::per_minute(DEVICE_LOGINS_PER_MINUTE), starts),
            tries: AttemptLimiter::new(Quota::per_minute(USER_CODES_PER_MINUTE), tries),
            polls: AttemptLimiter::new(poll_quota, polls),
        }
    }

    /// Starts a sign-in.
    ///
    /// # Errors
    /// [`ServiceError::RateLimited`]; 503 `too_many_device_logins`.
    pub async fn start(&self, client: &Client, user_agent: &str) -> Result<StartedDeviceLogin> {
        client.limited_as.map_or(Ok(()), |source| self.starts.attempt(&source))?;
        let (secret, user_code) = (NewSecret::random(DEVICE_CODE_PREFIX)?, UserCode::random()?);
        let now = self.sign_in.clock.now();
        let row = device_login::Model {
            id: DeviceLoginId::new(),
            device_hash: secret.hash.0.to_vec(),
            user_hash: user_code.hash(&self.sign_in.secret_box).0.to_vec(),
            user_agent: clean(user_agent, MAX_USER_AGENT_CHARS),
            source: client.source.clone(),
            created_at: now,
            expires_at: now.plus_ms(DEVICE_LOGIN_MS),
            decided_at: None,
            approved_by: None,
            used_at: None,
        };
        if !self.sign_in.store.system().open_device_login(row).await? {
            return Err(ServiceError::Busy {
                code: "too_many_device_logins",
                detail: "too many programs wait for an approval; try again later",
            });
        }
        let device_code = Zeroizing::new(secret.secret);
        Ok(StartedDeviceLogin { device_code, user_code: user_code.text() })
    }

    /// The sign-in of a code, for the person who decides about it.
    ///
    /// # Errors
    /// 403 `session_required` for an API key; 404 for a wrong or expired code;
    /// [`ServiceError::RateLimited`].
    pub async fn show(&self, caller: &Caller, user_code: &str) -> Result<DeviceLoginRecord> {
        require_session(&self.sign_in.store, caller).await?;
        Ok(self.undecided(caller, user_code).await?.into())
    }

    /// Gives the program of a code a session of the caller, in its tenant and with its role.
    ///
    /// # Errors
    /// As [`DeviceLogins::show`]; 403 `confirmation_required` without a recent proof of the password.
    pub async fn approve(&self, caller: &Caller, user_code: &str) -> Result<DeviceLoginRecord> {
        let live = require_confirmed(&self.sign_in.store, &self.sign_in.clock, caller).await?;
        self.decide(caller, user_code, Some(live.session.id)).await
    }

    /// Refuses the sign-in of a code.
    ///
    /// # Errors
    /// As [`DeviceLogins::show`].
    pub async fn refuse(&self, caller: &Caller, user_code: &str) -> Result<DeviceLoginRecord> {
        require_session(&self.sign_in.store, caller).await?;
        self.decide(caller, user_code, None).await
    }

    async fn decide(
        &self,
        caller: &Caller,
        user_code: &str,
        approved_by: Option<SessionId>,
    ) -> Result<DeviceLoginRecord> {
        let row = self.undecided(caller, user_code).await?;
        let now = self.sign_in.clock.now();
        let action = match approved_by {
            Some(_) => "device_login.approve",
            None => "device_login.refuse",
        };
        let detail = json!({"source": row.source, "user_agent": row.user_agent});
        let subject = Subject { kind: "device_login", id: row.id.0 };
        let audit = caller.audit(action, subject, &detail, now);
        let system = self.sign_in.store.system();
        match system.decide_device_login(row.id, approved_by, now, audit).await? {
            true => Ok(row.into()),
            false => Err(UNKNOWN),
        }
    }

    async fn undecided(&self, caller: &Caller, user_code: &str) -> Result<device_login::Model> {
        self.tries.attempt(&caller.principal.id)?;
        let code = UserCode::parse(user_code).ok_or(UNKNOWN)?;
        let hash = code.hash(&self.sign_in.secret_box);
        let row = self.sign_in.store.system().undecided_device_login(hash).await?;
        row.filter(|row| is_open(row, self.sign_in.clock.now())).ok_or(UNKNOWN)
    }

    /// The session of a program, once, after a person approved it.
    ///
    /// # Errors
    /// The codes of RFC 8628: 409 `authorization_pending`, 429 `slow_down`, 403 `access_denied`, and 410
    /// `expired_token`, also for a secret that is not known. [`ServiceError::TooMany`] if the source
    /// presents too many of these.
    pub async fn redeem(&self, client: &Client, device_code: &str) -> Result<SignedIn> {
        let row = self.known(client, device_code).await?;
        let now = self.sign_in.clock.now();
        if !is_open(&row, now) || row.used_at.is_some() {
            return Err(EXPIRED);
        }
        self.polls.attempt(&row.id)?;
        if row.decided_at.is_none() {
            let detail = PENDING.to_owned();
            return Err(ServiceError::Conflict { code: "authorization_pending", detail });
        }
        let denied =
            || ServiceError::Forbidden { code: "access_denied", detail: DENIED.to_owned() };
        let system = self.sign_in.store.system();
        let session_id = row.approved_by.ok_or_else(denied)?;
        let live = system.live_session(session_id).await?.ok_or_else(denied)?;
        let tenant = self.sign_in.store.tenant(live.member.tenant_id).tenant().await?;
        let tenant = tenant.ok_or_else(denied)?;
        let start = SessionStart::of_device(row.id);
        let made =
            self.sign_in.create_session(client, &live.user, (&live.member, &tenant), start).await;
        match made {
            // Used meanwhile, or the approval ended.
            Err(ServiceError::Unauthenticated { code: "session_ended", .. }) => Err(EXPIRED),
            made => made,
        }
    }

    async fn known(&self, client: &Client, device_code: &str) -> Result<device_login::Model> {
        let lookups = &self.sign_in.lookups;
        if client.limited_as.is_some_and(|source| !lookups.may_look_up(source)) {
            return Err(ServiceError::TooMany {
                code: "too_many_unknown_keys",
                detail: "too many unknown keys were sent from this address; check the key and try again later",
            });
        }
        if is_well_formed(device_code, DEVICE_CODE_PREFIX) {
            let hash = SecretHash::of(device_code);
            if let Some(row) = self.sign_in.store.system().device_login(hash).await? {
                return Ok(row);
            }
        }
        client.limited_as.inspect(|source| lookups.record_failure(*source));
        Err(EXPIRED)
    }
}

/// A sign-in that expires later than one that starts now was stored while the clock was ahead.
fn is_open(row: &device_login::Model, now: Timestamp) -> bool {
    row.expires_at > now && row.expires_at <= now.plus_ms(DEVICE_LOGIN_MS)
}
