//! Issues and checks access tokens with keys from the database, which are sealed under the master key.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use uuid::Uuid;

use crate::domain::access::people::access_token::{
    AccessClaims, PresentedToken, TokenKey, TokenProblem,
};
use crate::domain::ids::{MemberId, SessionId, TenantId, TokenKeyId};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::{Clock, Timestamp};
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::token_key;

/// The keys belong to no tenant.
const NO_TENANT: TenantId = TenantId(Uuid::nil());
/// What the keys are sealed for.
pub(in crate::services) const FIELD: &str = "token_key";
/// Shortest time between two reads of the keys because of an unknown one.
const READ_INTERVAL: Duration = Duration::from_secs(1);

const INVALID: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_access_token",
    detail: "the access token is not one of this server; sign in again",
};
pub(in crate::services::access) const EXPIRED: ServiceError = ServiceError::Unauthenticated {
    code: "expired_access_token",
    detail: "the access token has expired; refresh it, or sign in again",
};

/// The keys. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::services) struct AccessTokens(Arc<AccessTokensInner>);

#[derive(Debug)]
struct AccessTokensInner {
    store: Store,
    clock: Clock,
    secret_box: SecretBox,
    /// The newest last.
    keys: RwLock<Vec<Arc<TokenKey>>>,
    read_at: Mutex<Option<Instant>>,
}

impl AccessTokens {
    pub(in crate::services) fn new(store: Store, clock: Clock, secret_box: SecretBox) -> Self {
        let (keys, read_at) = (RwLock::default(), Mutex::default());
        Self(Arc::new(AccessTokensInner { store, clock, secret_box, keys, read_at }))
    }

    /// A token for a session that was checked just now.
    ///
    /// # Errors
    /// [`ServiceError::Store`] if a new key is needed and cannot be stored.
    pub(in crate::services) async fn issue(
        &self,
        member_id: MemberId,
        session_id: SessionId,
    ) -> Result<(String, AccessClaims)> {
        let now = self.0.clock.now();
        let signs = |key: &Arc<TokenKey>| TokenKey::signs_at(key.created_at, now);
        let key = match self.find(signs) {
            Some(key) => key,
            None => {
                self.add_key(now).await?;
                self.find(signs).ok_or(ServiceError::Unready)?
            }
        };
        Ok(key.issue(member_id, session_id, now))
    }

    /// What a token says, if this server issued it and it is valid now.
    ///
    /// # Errors
    /// 401 `invalid_access_token` or `expired_access_token`.
    pub(in crate::services) async fn verify(&self, text: &str) -> Result<AccessClaims> {
        let presented = PresentedToken::read(text).ok_or(INVALID)?;
        let key = match self.key(presented.key_id) {
            Some(key) => key,
            None => {
                self.read_again().await?;
                self.key(presented.key_id).ok_or(INVALID)?
            }
        };
        presented.verify(&key, self.0.clock.now()).map_err(|problem| match problem {
            TokenProblem::Invalid => INVALID,
            TokenProblem::Expired => EXPIRED,
        })
    }

    /// Forgets all keys, which were deleted: no access token from before is valid any more.
    pub(in crate::services) fn forget(&self) {
        self.replace(Vec::new());
    }

    fn key(&self, id: TokenKeyId) -> Option<Arc<TokenKey>> {
        let now = self.0.clock.now();
        self.find(|key| key.id == id && TokenKey::is_kept_at(key.created_at, now))
    }

    fn find(&self, is_wanted: impl Fn(&Arc<TokenKey>) -> bool) -> Option<Arc<TokenKey>> {
        let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().rev().find(|key| is_wanted(key)).cloned()
    }

    /// Another server may have made the key. Guesses do not make this one read more often.
    async fn read_again(&self) -> Result<()> {
        let mut read_at = self.0.read_at.lock().await;
        if read_at.is_none_or(|at| at.elapsed() >= READ_INTERVAL) {
            let rows = self.0.store.system().token_keys().await?;
            self.replace(rows);
            *read_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Stores a new key, unless there is one that signs. Of several callers one does.
    async fn add_key(&self, now: Timestamp) -> Result<()> {
        let _one = self.0.read_at.lock().await;
        let seed = TokenKey::random_seed()?;
        let sealed = self.0.secret_box.seal(NO_TENANT, FIELD, seed.as_slice())?;
        let row = token_key::Model { id: TokenKeyId::new(), sealed, created_at: now };
        let rows = self.0.store.system().add_token_key(row, now).await?;
        self.replace(rows);
        Ok(())
    }

    fn replace(&self, rows: Vec<token_key::Model>) {
        let open = |row: token_key::Model| {
            let seed = self.0.secret_box.open(NO_TENANT, FIELD, &row.sealed).ok();
            let key = seed.and_then(|seed| TokenKey::from_seed(row.id, row.created_at, &seed));
            if key.is_none() {
                tracing::error!(key = %row.id, "failed to open a key that signs access tokens");
            }
            key.map(Arc::new)
        };
        let keys = rows.into_iter().filter_map(open).collect();
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}
