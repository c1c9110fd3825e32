//! Authentication while the database is unavailable: callers that were seen before may read what
//! needs no database.

use std::sync::Arc;
use std::time::Duration;

use super::Authentication;
use crate::domain::access::credential::SecretHash;
use crate::domain::access::principal::Principal;
use crate::domain::source::ClientSource;
use crate::services::error::{Result, ServiceError};

/// How long such a request waits for the database. Prometheus waits for 10 s.
pub(in crate::services) const DATABASE_PATIENCE: Duration = Duration::from_secs(2);

impl Authentication {
    /// Like [`Self::authenticate_caller`], for responses that do not need the database. While it is
    /// unavailable, callers that were seen before are accepted.
    ///
    /// # Errors
    /// As [`Self::authenticate_caller`].
    pub async fn authenticate_degraded(
        &self,
        secret: &str,
        source: Option<ClientSource>,
    ) -> Result<Arc<Principal>> {
        let Some(known) = self.cache.last_known_principal(SecretHash::of(secret)) else {
            return self.authenticate_caller(secret, source).await;
        };
        let authentication = self.authenticate_caller(secret, source);
        match tokio::time::timeout(DATABASE_PATIENCE, authentication).await {
            Ok(Err(ServiceError::Store(_))) | Err(_) => self.admit_principal(known),
            Ok(answer) => answer,
        }
    }
}
