//! Limits the bytes from agents that the server holds between reading and commit: for each session,
//! for each agent key, for each tenant, and for all sessions together.
//!
//! A permit is acquired before the bytes are parsed. Who finds no free bytes waits, and is not read
//! meanwhile; [`ByteShares`] decides who is next.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::{AgentKeyId, TenantId};
use crate::services::byte_shares::{ByteLimits, ByteOwner, ByteShares, HeldBytes};
use crate::services::freed_memory::FreedMemory;

/// Bytes of one session.
const MAX_BYTES_PER_SESSION: usize = 8 * 1024 * 1024;
/// Bytes of all sessions of one agent key.
const MAX_BYTES_PER_KEY: usize = 16 * 1024 * 1024;
/// Bytes of all sessions of one tenant.
const MAX_BYTES_PER_TENANT: usize = 32 * 1024 * 1024;
/// Bytes of all sessions.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Large texts of all sessions of one agent key per second, and in one burst, in KiB.
const KEY_TEXT_KIB_PER_SECOND: NonZeroU32 = NonZeroU32::new(2 * 1024).unwrap();
const KEY_TEXT_BURST_KIB: NonZeroU32 = NonZeroU32::new(32 * 1024).unwrap();
/// Bytes of one permit of a session's semaphore.
const UNIT_BYTES: usize = 1024;

/// Shared by every session of the server.
#[derive(Debug, Clone)]
pub(super) struct ByteLimiter(Arc<ByteLimiterInner>);

#[derive(Debug)]
struct ByteLimiterInner {
    bytes: ByteShares,
    by_key: Mutex<HashMap<AgentKeyId, Weak<KeyShare>>>,
}

/// The share of one agent key, kept while a session or a permit uses it.
#[derive(Debug)]
struct KeyShare {
    key_id: AgentKeyId,
    owner: ByteOwner,
    text_kib: DefaultDirectRateLimiter,
    limiter: Weak<ByteLimiterInner>,
}

/// The share of one session. Allocates nothing for a session that sends only small messages.
#[derive(Debug)]
pub struct SessionBytes {
    limiter: ByteLimiter,
    key: Arc<KeyShare>,
    own: Mutex<Weak<Semaphore>>,
}

/// Bytes that may be held until this is dropped.
#[derive(Debug)]
pub struct BytePermit(Option<SessionPermit>);

#[derive(Debug)]
struct SessionPermit {
    // The order in which they are freed does not matter.
    _session: OwnedSemaphorePermit,
    _bytes: HeldBytes,
    _share: Arc<KeyShare>,
}

impl ByteLimiter {
    /// Nothing is held yet. `freed`: counts the bytes of messages that were processed.
    pub(super) fn new(freed: FreedMemory) -> Self {
        let limits =
            ByteLimits { key: MAX_BYTES_PER_KEY, tenant: MAX_BYTES_PER_TENANT, all: MAX_BYTES };
        Self(Arc::new(ByteLimiterInner {
            bytes: ByteShares::new(limits, freed),
            by_key: Mutex::default(),
        }))
    }

    /// The share of a new session of this key.
    pub(super) fn session(&self, tenant_id: TenantId, key_id: AgentKeyId) -> SessionBytes {
        let mut by_key = self.0.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let known = by_key.get(&key_id).and_then(Weak::upgrade);
        let key = known.unwrap_or_else(|| {
            let owner = ByteOwner { tenant_id, key_id: key_id.0 };
            let quota = Quota::per_second(KEY_TEXT_KIB_PER_SECOND).allow_burst(KEY_TEXT_BURST_KIB);
            let (text_kib, limiter) = (RateLimiter::direct(quota), Arc::downgrade(&self.0));
            let share = Arc::new(KeyShare { key_id, owner, text_kib, limiter });
            by_key.insert(key_id, Arc::downgrade(&share));
            share
        });
        SessionBytes { limiter: self.clone(), key, own: Mutex::default() }
    }
}

impl SessionBytes {
    /// Messages up to this size are limited by their number alone.
    pub const UNCOUNTED_BYTES: usize = 4 * 1024;

    /// The rate of large texts that the sessions of the key share.
    pub(super) fn large_texts_of_key(&self) -> &DefaultDirectRateLimiter {
        &self.key.text_kib
    }

    /// Waits until the session may hold so many more bytes.
    pub async fn acquire(&self, bytes: usize) -> BytePermit {
        if bytes <= Self::UNCOUNTED_BYTES {
            return BytePermit(None);
        }
        let own = self.own();
        let bytes = bytes.min(MAX_BYTES_PER_SESSION);
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let permits = async {
            // The narrowest limit first, so that a session holds nothing of the others' while it
            // waits for itself.
            let _session = own.acquire_many_owned(units).await.ok()?;
            let _bytes = self.limiter.0.bytes.acquire(self.key.owner, bytes).await;
            Some(SessionPermit { _session, _bytes, _share: Arc::clone(&self.key) })
        };
        // The semaphore is never closed.
        BytePermit(Box::pin(permits).await)
    }

    /// The semaphore of this session, which exists while a permit does.
    fn own(&self) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.upgrade().unwrap_or_else(|| {
            let semaphore = Arc::new(Semaphore::new(MAX_BYTES_PER_SESSION / UNIT_BYTES));
            *own = Arc::downgrade(&semaphore);
            semaphore
        })
    }
}

impl BytePermit {
    /// The same bytes, which keep this permit until their last part is dropped.
    pub fn attach(self, bytes: Bytes) -> Bytes {
        match self.0 {
            None => bytes,
            held => Bytes::from_owner(WithPermit { bytes, _held: held }),
        }
    }
}

struct WithPermit {
    bytes: Bytes,
    _held: Option<SessionPermit>,
}

impl AsRef<[u8]> for WithPermit {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for KeyShare {
    fn drop(&mut self) {
        let Some(limiter) = self.limiter.upgrade() else { return };
        let mut by_key = limiter.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // A new share may have taken its place meanwhile.
        if by_key.get(&self.key_id).is_some_and(|share| share.strong_count() == 0) {
            by_key.remove(&self.key_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const LARGE: usize = 1024 * 1024;

    fn now(session: &SessionBytes, bytes: usize) -> Option<BytePermit> {
        // Without the runtime's budget, which ends after some permits.
        tokio::task::unconstrained(session.acquire(bytes)).now_or_never()
    }

    fn fill(session: &SessionBytes, bytes: usize) -> Vec<BytePermit> {
        std::iter::from_fn(|| now(session, bytes)).collect()
    }

    #[tokio::test]
    async fn session_and_key_hold_no_more_than_their_shares() {
        let limiter = ByteLimiter::new(FreedMemory::default());
        let (tenant, key) = (TenantId::new(), AgentKeyId::new());
        let sessions: Vec<_> = (0..4).map(|_| limiter.session(tenant, key)).collect();
        let first = fill(&sessions[0], LARGE);
        assert_eq!(first.len() * LARGE, MAX_BYTES_PER_SESSION);
        let rest: Vec<_> = sessions[1..].iter().flat_map(|one| fill(one, LARGE)).collect();
        let small: Vec<_> = sessions[1..].iter().flat_map(|one| fill(one, LARGE / 4)).collect();
        assert!(!small.is_empty(), "some bytes are left for small messages");
        assert_eq!(limiter.0.bytes.held(), MAX_BYTES_PER_KEY);
        assert!(now(&sessions[3], SessionBytes::UNCOUNTED_BYTES).is_some(), "smallest ones pass");
        let other = limiter.session(tenant, AgentKeyId::new());
        assert!(now(&other, LARGE).is_some(), "another key has its own share");
        drop((first, small));
        assert!(now(&sessions[3], LARGE).is_some());
        drop((rest, other, sessions));
        assert_eq!(limiter.0.bytes.held(), 0);
        assert!(limiter.0.by_key.lock().expect("free").is_empty());
    }

    #[tokio::test]
    async fn permit_lasts_as_long_as_any_part_of_its_bytes() {
        let limiter = ByteLimiter::new(FreedMemory::default());
        let session = limiter.session(TenantId::new(), AgentKeyId::new());
        let permit = session.acquire(LARGE).await;
        let bytes = permit.attach(vec![7; LARGE].into());
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(limiter.0.bytes.held(), LARGE);
        drop(part);
        assert_eq!(limiter.0.bytes.held(), 0);
    }
}
