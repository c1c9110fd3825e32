//! The principals of API keys and of sessions, as the database has them.

use std::collections::BTreeSet;

use super::{Authentication, INVALID};
use crate::domain::access::credential::SecretHash;
use crate::domain::access::keys::key_limits::KeyLimits;
use crate::domain::access::people::access_token::AccessClaims;
use crate::domain::access::principal::{Principal, PrincipalKind};
use crate::domain::ids::MemberId;
use crate::domain::time::Timestamp;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{ApiKeyMatch, LiveUserSession};
use crate::store::{Store, StoreError};

/// What a request presents, as far as it can be checked without the database.
#[derive(Debug, Clone, Copy)]
pub(in crate::services) enum Credential {
    /// The hash of a key.
    ApiKey(SecretHash),
    /// A token that this server signed.
    AccessToken { hash: SecretHash, claims: AccessClaims },
}

impl Credential {
    /// What it is cached by.
    pub(in crate::services) fn hash(self) -> SecretHash {
        match self {
            Self::ApiKey(hash) | Self::AccessToken { hash, .. } => hash,
        }
    }

    /// The credential of a token that was accepted before as this principal.
    pub(super) fn of_token(hash: SecretHash, principal: &Principal) -> Option<Self> {
        let (session_id, expires_at) = (principal.session_id()?, principal.expires_at?);
        let claims = AccessClaims { member_id: MemberId(principal.id.0), session_id, expires_at };
        Some(Self::AccessToken { hash, claims })
    }
}

impl Authentication {
    pub(super) async fn read_principal(&self, credential: Credential) -> Result<Principal> {
        let system = self.store.system();
        match credential {
            Credential::ApiKey(hash) => {
                of_api_key(system.find_api_key(hash).await?, hash).ok_or(INVALID)
            }
            Credential::AccessToken { claims, .. } => {
                let live = system.live_session(claims.session_id).await?;
                let live = live.filter(|live| live.member.id == claims.member_id);
                let ended = ServiceError::from(StoreError::SessionEnded);
                Ok(of_session(live.ok_or(ended)?, Some(claims.expires_at)))
            }
        }
    }
}

/// The principal as it is now; `None` if its key was revoked, its session ended or its member was
/// removed.
pub(in crate::services) async fn reread(
    store: &Store,
    principal: &Principal,
) -> std::result::Result<Option<Principal>, StoreError> {
    match principal.kind {
        PrincipalKind::ApiKey => {
            // The secret decides: a key may have two for a while.
            let Some(hash) = principal.secret_hash else { return Ok(None) };
            Ok(of_api_key(store.system().find_api_key(hash).await?, hash))
        }
        PrincipalKind::Member { session_id } => {
            let live = store.system().live_session(session_id).await?;
            Ok(live.map(|live| of_session(live, principal.expires_at)))
        }
        PrincipalKind::AbsentMember | PrincipalKind::Operator => Ok(None),
    }
}

/// The principal of what a presented secret belongs to. The secret before a rotation ends with its time;
/// everything that a caller has under way ends with it, because it counts as the expiry.
pub(in crate::services) fn of_api_key(
    found: ApiKeyMatch,
    secret_hash: SecretHash,
) -> Option<Principal> {
    let (row, ends_at) = match found {
        ApiKeyMatch::Key(row) => (row, None),
        ApiKeyMatch::Previous(row) => {
            let ends_at = row.previous_valid_until?;
            (row, Some(ends_at))
        }
        ApiKeyMatch::Unknown => return None,
    };
    let rights = row.rights();
    Some(Principal {
        tenant_id: row.tenant_id,
        id: row.id.into(),
        kind: PrincipalKind::ApiKey,
        name: row.name,
        role: rights.role,
        scopes: rights.scopes,
        expires_at: rights.expires_at.into_iter().chain(ends_at).min(),
        limits: rights.limits,
        secret_hash: Some(secret_hash),
        lacks_second_factor: false,
    })
}

fn of_session(live: LiveUserSession, expires_at: Option<Timestamp>) -> Principal {
    Principal {
        tenant_id: live.member.tenant_id,
        id: live.member.id.into(),
        kind: PrincipalKind::Member { session_id: live.session.id },
        name: live.user.name,
        role: live.member.role,
        // Without scopes, streams end too, which are checked without a request.
        scopes: match live.lacks_second_factor {
            true => BTreeSet::new(),
            false => live.member.role.tenant_scopes(),
        },
        expires_at,
        limits: KeyLimits::default(),
        secret_hash: None,
        lacks_second_factor: live.lacks_second_factor,
    }
}
