//! Watches whether an API key stays valid while a request or a download of it lasts.
//!
//! This module does not know what lasts.

use std::time::Duration;

use tokio::sync::watch;

use super::authentication::Authentication;
use crate::domain::access::credential::SecretHash;
use crate::domain::time::Timestamp;
use crate::services::error::ServiceError;

/// Longest single wait for the expiry of a key. A longer wait is split.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// One key, from before its request was authenticated.
#[derive(Debug)]
pub struct KeyWatch {
    authentication: Authentication,
    secret_hash: SecretHash,
    changes: watch::Receiver<u64>,
    /// When the key expires, as of the last check.
    expires_at: Option<Timestamp>,
}

impl Authentication {
    /// Starts to watch a key. Call it before the key is authenticated, so that no revocation is
    /// missed, and pass what authentication found to [`KeyWatch::until`].
    pub fn watch(&self, secret: &str) -> KeyWatch {
        KeyWatch {
            authentication: self.clone(),
            secret_hash: SecretHash::of(secret),
            changes: self.cache.principal_changes(),
            expires_at: None,
        }
    }
}

impl KeyWatch {
    /// Sets when the key expires.
    pub fn until(self, expires_at: Option<Timestamp>) -> Self {
        Self { expires_at, ..self }
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
            match self.authentication.find_principal(self.secret_hash).await {
                Ok(principal) => self.expires_at = principal.expires_at,
                Err(error) => return error,
            }
        }
    }
}
