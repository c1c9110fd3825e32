//! What a person does only with a password, or a code of the second factor, that was given a short time ago.

use crate::domain::time::Clock;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::LiveUserSession;
use crate::store::{Store, StoreError};

/// How long a proof of the password counts: 15 minutes.
const CONFIRMATION_MS: u64 = 15 * 60_000;

/// The session of a person.
///
/// # Errors
/// 403 `session_required` for an API key.
pub(in crate::services) async fn require_session(
    store: &Store,
    caller: &Caller,
) -> Result<LiveUserSession> {
    let Some(id) = caller.principal.session_id() else {
        return Err(ServiceError::Forbidden {
            code: "session_required",
            detail: "only a person who is signed in may do this, and an API key may not".into(),
        });
    };
    let live = store.system().live_session(id).await?;
    live.ok_or_else(|| StoreError::SessionEnded.into())
}

/// As [`require_confirmed`] for a person; an API key may do it without.
///
/// # Errors
/// 403 `confirmation_required`.
pub(in crate::services) async fn require_confirmed_if_person(
    store: &Store,
    clock: &Clock,
    caller: &Caller,
) -> Result<()> {
    if caller.principal.session_id().is_some() {
        require_confirmed(store, clock, caller).await?;
    }
    Ok(())
}

/// The session of a person who proved the password in the last 15 minutes.
///
/// # Errors
/// 403 `session_required` for an API key, 403 `confirmation_required` for an older proof.
pub(in crate::services) async fn require_confirmed(
    store: &Store,
    clock: &Clock,
    caller: &Caller,
) -> Result<LiveUserSession> {
    let live = require_session(store, caller).await?;
    let (confirmed_at, now) = (live.session.confirmed_at, clock.now());
    // A proof from a later time is one of a clock that was ahead.
    if confirmed_at <= now && now.ms_since(confirmed_at) <= CONFIRMATION_MS {
        return Ok(live);
    }
    Err(ServiceError::Forbidden {
        code: "confirmation_required",
        detail: "this needs your password or a code of your second factor again, because you last gave one more than 15 minutes ago"
            .into(),
    })
}
