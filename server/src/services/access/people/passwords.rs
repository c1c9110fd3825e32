//! Hashes passwords with Argon2id, few at once: each takes 19 MiB and some ten milliseconds.
//!
//! The memory of a hash is used again by the next one. Allocators keep freed blocks of this size for each
//! thread that used one, so that a flood of wrong passwords would take hundreds of megabytes for good.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::{Zeroize as _, Zeroizing};

use crate::services::error::{Result, ServiceError};

/// Passwords that are hashed at once. Never more than half the processor cores, so that guesses leave the
/// other half to everybody else.
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
    /// The memory of hashes that have ended, wiped: one for each that may run at once.
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            hashing: Arc::new(Semaphore::new(hashed_at_once())),
            waiting: Arc::new(Semaphore::new(MAX_WAITING_HASHES)),
            memory: Arc::default(),
        }
    }
}

fn hashed_at_once() -> usize {
    (available_parallelism().map_or(1, usize::from) / 2).clamp(1, MAX_HASHING)
}

/// The hash of a password with a salt and costs; `None` for costs that no hash can have.
fn argon2id(
    password: &[u8],
    salt: Salt,
    params: &Params,
    memory: &mut Vec<Block>,
) -> Option<PasswordHash> {
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    memory.resize(params.block_count(), Block::new());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into_with_memory(password, &salt, &mut output, memory)
        .ok()?;
    Some(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).ok()?,
        salt: Some(salt),
        hash: Some(Output::new(&output).ok()?),
    })
}

/// True if the password makes the hash again. Outputs are compared in constant time.
fn is_password_of(known: &PasswordHash, password: &[u8], memory: &mut Vec<Block>) -> bool {
    let (Some(salt), Ok(params)) = (known.salt, Params::try_from(known)) else { return false };
    argon2id(password, salt, &params, memory).is_some_and(|made| made.hash == known.hash)
}

impl Passwords {
    /// Hashes a password, in the PHC format.
    ///
    /// # Errors
    /// [`ServiceError::Busy`] if too many wait.
    pub(in crate::services) async fn hash(&self, password: Zeroizing<String>) -> Result<String> {
        self.run(move |memory| {
            let hashed = argon2id(password.as_bytes(), Salt::generate(), &Params::DEFAULT, memory);
            hashed.map(|hash| hash.to_string()).ok_or(BROKEN)
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
        self.run(move |memory| {
            let parsed = PasswordHash::new(hash.as_deref().unwrap_or(HASH_OF_NOTHING));
            let is_same =
                parsed.is_ok_and(|known| is_password_of(&known, password.as_bytes(), memory));
            is_same && hash.is_some()
        })
        .await
    }

    /// Runs on a thread that may block. A caller that hangs up does not free its place early.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T> {
        let permit = self.permit().await?;
        let memory = Arc::clone(&self.memory);
        let done = tokio::task::spawn_blocking(move || {
            let free = || memory.lock().unwrap_or_else(PoisonError::into_inner);
            let mut blocks = free().pop().unwrap_or_default();
            let done = work(&mut blocks);
            blocks.iter_mut().for_each(Block::zeroize);
            free().push(blocks);
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
    use futures_util::FutureExt as _;

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
    async fn an_unknown_account_waits_for_a_hash_like_a_known_one() {
        let passwords = Passwords::default();
        let all = Arc::clone(&passwords.hashing).try_acquire_many_owned(hashed_at_once() as u32);
        for hash in [Some("no hash".to_owned()), None] {
            let mut verifying = Box::pin(passwords.verify(secret("any"), hash));
            assert!(verifying.as_mut().now_or_never().is_none(), "nothing is hashed");
        }
        drop(all);
        assert!(!passwords.verify(secret("any"), None).await.expect("verified"));
    }

    #[tokio::test]
    async fn hashes_use_the_memory_of_earlier_ones() {
        let passwords = Passwords::default();
        let checks = (0..MAX_WAITING_HASHES - 1).map(|_| passwords.verify(secret("wrong"), None));
        assert!(futures_util::future::join_all(checks).await.iter().all(Result::is_ok));
        let memory = passwords.memory.lock().expect("not poisoned");
        assert!(memory.len() <= hashed_at_once(), "{} blocks of memory", memory.len());
        assert!(memory.iter().flatten().all(|block| block.as_ref().iter().all(|word| *word == 0)));
    }

    #[tokio::test]
    async fn more_than_may_wait_are_refused() {
        let passwords = Passwords::default();
        let _all = Arc::clone(&passwords.hashing).try_acquire_many_owned(hashed_at_once() as u32);
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
