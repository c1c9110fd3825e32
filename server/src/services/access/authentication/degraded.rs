//! Who may look on while the database is away: whoever was known before.

use std::sync::Arc;
use std::time::Duration;

use super::Authentication;
use crate::domain::access::credential::SecretHash;
use crate::domain::access::principal::Principal;
use crate::services::error::{Result, ServiceError};

/// How long the database is waited for by what can be answered without it: Prometheus waits 10 s.
pub(in crate::services) const DATABASE_PATIENCE: Duration = Duration::from_secs(2);

impl Authentication {
    /// As [`Self::authenticate_caller`], for what can be answered without the database: while that is
    /// away, who was known before is known still.
    ///
    /// # Errors
    /// As there.
    pub async fn authenticate_watcher(&self, secret: &str) -> Result<Arc<Principal>> {
        let Some(known) = self.cache.last_known_principal(SecretHash::of(secret)) else {
            return self.authenticate_caller(secret).await;
        };
        let asked = self.authenticate_caller(secret);
        match tokio::time::timeout(DATABASE_PATIENCE, asked).await {
            Ok(Err(ServiceError::Store(_))) | Err(_) => self.admit_principal(&known),
            Ok(answer) => answer,
        }
    }
}
