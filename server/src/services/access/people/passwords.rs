//! Hashes passwords with Argon2id, few at once: each takes 19 MiB and some ten milliseconds.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::services::error::{Result, ServiceError};

/// Passwords that are hashed at once.
const MAX_HASHING: usize = 2;
/// … and those that wait for it; more are refused.
const MAX_WAITING_HASHES: usize = 32;
/// Costs as much as the hash of a password, and is that of none.
const HASH_OF_NOTHING: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const BUSY: ServiceError = ServiceError::Busy {
    code: "too_many_sign_ins",
    detail: "too many people sign in at the moment; try again in a moment",
};
const BROKEN: ServiceError = ServiceError::Busy {
    code: "password_not_hashed",
    detail: "the server could not check the password; try again",
};

/// Hashes and checks passwords. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::services) struct Passwords {
    hashing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            hashing: Arc::new(Semaphore::new(MAX_HASHING)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING_HASHES)),
        }
    }
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

impl Passwords {
    /// Hashes a password, in the PHC format.
    ///
    /// # Errors
    /// [`ServiceError::Busy`] if too many wait.
    pub(in crate::services) async fn hash(&self, password: Zeroizing<String>) -> Result<String> {
        self.run(move || {
            let hashed = argon2().hash_password(password.as_bytes());
            hashed.map(|hash: PasswordHash| hash.to_string()).map_err(|_| BROKEN)
        })
        .await?
    }

    /// True if the password is the one of the hash. Without a hash it takes as long, and is false.
    ///
    /// # Errors
    /// [`ServiceError::Busy`] if too many wait.
    pub(in crate::services) async fn verify(
        &self,
        password: Zeroizing<String>,
        hash: Option<String>,
    ) -> Result<bool> {
        // A person who only signs in with a provider has none.
        let hash = hash.filter(|hash| !hash.is_empty());
        self.run(move || {
            let parsed = PasswordHash::new(hash.as_deref().unwrap_or(HASH_OF_NOTHING));
            let is_same = parsed
                .is_ok_and(|known| argon2().verify_password(password.as_bytes(), &known).is_ok());
            is_same && hash.is_some()
        })
        .await
    }

    /// Runs on a thread that may block. A caller that hangs up does not free its place early.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = self.permit().await?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| BROKEN)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let _waiting = self.waiting.try_acquire().map_err(|_| BUSY)?;
        Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| BUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_with_a_salt_of_its_own() {
        let passwords = Passwords::default();
        let hash = async || passwords.hash(secret("correct horse battery")).await.expect("hashed");
        let (one, other) = (hash().await, hash().await);
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, other);
        let verify = async |text: &str, hash: &str| {
            passwords.verify(secret(text), Some(hash.to_owned())).await.expect("verified")
        };
        assert!(verify("correct horse battery", &one).await);
        assert!(!verify("correct horse batterz", &one).await && !verify("", "no hash").await);
        assert!(!passwords.verify(secret("any"), None).await.expect("verified"));
        let nothing = PasswordHash::new(HASH_OF_NOTHING).expect("a hash");
        let params = Params::try_from(&nothing).expect("parameters");
        assert_eq!(params.m_cost(), Params::DEFAULT.m_cost(), "it costs something else");
        assert_eq!(params.t_cost(), Params::DEFAULT.t_cost());
    }

    #[tokio::test]
    async fn more_than_may_wait_are_refused() {
        let passwords = Passwords::default();
        let _all = Arc::clone(&passwords.hashing).try_acquire_many_owned(MAX_HASHING as u32);
        let waits: Vec<_> = (0..MAX_WAITING_HASHES)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.hash(secret("a password")).await })
            })
            .collect();
        while passwords.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = passwords.hash(secret("a password")).await;
        assert!(matches!(refused, Err(ServiceError::Busy { .. })), "{refused:?}");
        waits.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
