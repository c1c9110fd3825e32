//! Watches whether an API key or a session stays valid while a request or a download of it lasts.
//!
//! This module does not know what lasts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::access::principal::Principal;
use crate::domain::certificates::client_certificate::KeyHash;
use crate::domain::ids::TenantId;
use crate::domain::source::ClientSource;
use crate::domain::time::Timestamp;
use crate::services::access::authentication::{Authentication, Credential};
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;

/// Longest single wait for the expiry of a key. A longer wait is split.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// One key or access token, from before its request was authenticated.
#[derive(Debug)]
pub struct KeyWatch {
    authentication: Authentication,
    credential: Credential,
    changes: watch::Receiver<u64>,
    /// When the key expires, as of the last check.
    expires_at: Option<Timestamp>,
    /// The certificate of the connection, where one is required.
    certificate: Option<KeyHash>,
}

impl Authentication {
    /// As [`Self::authenticate_caller`], with a watch that misses no revocation.
    ///
    /// # Errors
    /// The same.
    pub async fn authenticate_watched(
        &self,
        secret: &str,
        source: Option<ClientSource>,
    ) -> Result<(Arc<Principal>, KeyWatch)> {
        // Before the key is checked.
        let changes = self.cache.principal_changes();
        let credential = self.credential(secret).await?;
        let principal = self.authenticate(credential, source).await?;
        let authentication = self.clone();
        let expires_at = principal.expires_at;
        Ok((
            principal,
            KeyWatch { authentication, credential, changes, expires_at, certificate: None },
        ))
    }
}

impl KeyWatch {
    /// The request must end with this certificate too.
    pub fn set_certificate(&mut self, certificate: Option<KeyHash>) {
        self.certificate = certificate;
    }

    /// Waits until the key is revoked or has expired, and returns why the request must end. Also
    /// returns if the key had to be checked and could not be. Safe to cancel.
    pub async fn ended(&mut self) -> ServiceError {
        loop {
            let until_end = match self.expires_at {
                Some(at) => Duration::from_millis(at.ms_since(self.authentication.clock.now()) + 1),
                None => LONGEST_WAIT,
            };
            tokio::select! {
                // Never closed: the cache that this watch holds has the other end.
                _ = self.changes.changed() => {}
                () = tokio::time::sleep(until_end.min(LONGEST_WAIT)) => {}
            }
            match self.authentication.find_principal(self.credential).await {
                Ok(principal) => {
                    if let Err(closed) = self.authentication.require_open(principal.tenant_id) {
                        return closed;
                    }
                    match self.has_certificate(principal.tenant_id).await {
                        Ok(true) => {}
                        Ok(false) => return certificate_ended(),
                        Err(error) => return error.into(),
                    }
                    self.expires_at = principal.expires_at;
                }
                Err(error) => return error,
            }
        }
    }

    async fn has_certificate(&self, tenant_id: TenantId) -> std::result::Result<bool, StoreError> {
        let Some(key) = self.certificate else { return Ok(true) };
        let tenant = self.authentication.store.tenant(tenant_id);
        tenant.is_certificate_valid(key, self.authentication.clock.now()).await
    }
}

/// Ends what a caller has under way whose certificate was revoked.
fn certificate_ended() -> ServiceError {
    ServiceError::Forbidden {
        code: "certificate_required",
        detail: "the certificate of the connection was revoked, or has expired".into(),
    }
}
