//! Shares a number of bytes among tenants and their keys, so that none of them can delay the others.
//!
//! There are three limits: of a key, of a tenant, and of all together. A request fits if its bytes, added to
//! what the key holds, stay within the limit of the key; added to what key and tenant hold, within that of
//! the tenant; and added to what key, tenant and all hold, within that of all. So one tenant gets at most
//! half of all bytes, the next one half of the rest, and a key that holds none can still get some. An eighth
//! of each limit is reserved for small requests.
//!
//! A request that does not fit waits. Freed bytes go to the tenant, and in it to the key, that holds
//! least; the requests of a key are served in order of arrival.
//!
//! This module does not know what the bytes are.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::freed_memory::FreedMemory;
use crate::domain::ids::TenantId;

/// Requests up to this size may use the last part of each limit, and don't wait behind larger ones.
pub const MAX_SMALL_BYTES: usize = 256 * 1024;
/// The part of each limit that only small requests may use.
const RESERVE_DIVISOR: usize = 8;

/// Who holds bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteOwner {
    pub tenant_id: TenantId,
    /// An API key or an agent key.
    pub key_id: Uuid,
}

/// Most bytes that may be held.
#[derive(Debug, Clone, Copy)]
pub struct ByteLimits {
    pub key: usize,
    pub tenant: usize,
    pub all: usize,
}

/// The bytes that are shared. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ByteShares(Arc<ByteSharesInner>);

#[derive(Debug)]
struct ByteSharesInner {
    limits: ByteLimits,
    freed: FreedMemory,
    state: Mutex<ByteSharesState>,
}

#[derive(Debug, Default)]
struct ByteSharesState {
    held: usize,
    by_tenant: HashMap<TenantId, usize>,
    by_key: HashMap<ByteOwner, usize>,
    waiting: HashMap<Queue, VecDeque<Waiter>>,
    /// The queues of a tenant by what their keys hold, then by their oldest waiters.
    order: HashMap<(TenantId, IsSmall), BTreeSet<OrderedQueue>>,
    arrivals: u64,
}

/// Small requests wait apart from larger ones.
type IsSmall = bool;
type Queue = (ByteOwner, IsSmall);
/// A queue behind what its key holds and the arrival of its oldest waiter.
type OrderedQueue = (usize, u64, Queue);

#[derive(Debug)]
struct Waiter {
    arrival: u64,
    bytes: usize,
    granted: oneshot::Sender<HeldBytes>,
}

/// Bytes that may be held until this is dropped.
#[derive(Debug)]
pub struct HeldBytes {
    shared: Arc<ByteSharesInner>,
    owner: ByteOwner,
    bytes: usize,
}

impl ByteShares {
    /// Nothing is held yet. `freed`: counts the bytes that are not held any more.
    pub fn new(limits: ByteLimits, freed: FreedMemory) -> Self {
        Self(Arc::new(ByteSharesInner { limits, freed, state: Mutex::default() }))
    }

    /// Waits until the owner may hold so many more bytes. More than a key may ever hold at once never
    /// fits.
    pub async fn acquire(&self, owner: ByteOwner, bytes: usize) -> HeldBytes {
        loop {
            let mut entry = match self.take_or_wait(owner, bytes) {
                Ok(held) => return held,
                Err(entry) => entry,
            };
            // A waiter leaves the queue with its bytes, or when its entry is dropped.
            if let Ok(held) = (&mut entry.granted).await {
                entry.is_waiting = false;
                return held;
            }
        }
    }

    fn take_or_wait(&self, owner: ByteOwner, bytes: usize) -> Result<HeldBytes, QueueEntry> {
        let shared = &self.0;
        let queue: Queue = (owner, bytes <= MAX_SMALL_BYTES);
        let mut state = shared.lock();
        if !state.waiting.contains_key(&queue) && shared.limits.fit(&state, owner, bytes) {
            return Ok(shared.take(&mut state, owner, bytes));
        }
        let (granted, receiver) = oneshot::channel();
        let arrival = state.arrivals;
        state.arrivals += 1;
        let waiter = Waiter { arrival, bytes, granted };
        state.change(owner, |state| state.waiting.entry(queue).or_default().push_back(waiter));
        Err(QueueEntry { shared: Arc::clone(shared), queue, granted: receiver, is_waiting: true })
    }

    /// Bytes that are held now.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.0.lock().held
    }
}

impl ByteLimits {
    fn fit(&self, state: &ByteSharesState, owner: ByteOwner, bytes: usize) -> bool {
        let most = |limit: usize| match bytes <= MAX_SMALL_BYTES {
            true => limit,
            false => limit - limit / RESERVE_DIVISOR,
        };
        let (of_key, of_tenant) = state.held_by(owner);
        of_key + bytes <= most(self.key)
            && of_key + of_tenant + bytes <= most(self.tenant)
            && of_key + of_tenant + state.held + bytes <= most(self.all)
    }
}

impl ByteSharesState {
    fn held_by(&self, owner: ByteOwner) -> (usize, usize) {
        let of_key = self.by_key.get(&owner).copied().unwrap_or(0);
        (of_key, self.by_tenant.get(&owner.tenant_id).copied().unwrap_or(0))
    }

    /// Changes what an owner holds or waits for, and keeps its queues in order.
    fn change<R>(&mut self, owner: ByteOwner, change: impl FnOnce(&mut Self) -> R) -> R {
        for queue in [(owner, true), (owner, false)] {
            let Some(place) = self.place_of(queue) else { continue };
            let of_tenant = (owner.tenant_id, queue.1);
            if let Some(queued) = self.order.get_mut(&of_tenant) {
                queued.remove(&place);
                if queued.is_empty() {
                    self.order.remove(&of_tenant);
                }
            }
        }
        let result = change(self);
        for queue in [(owner, true), (owner, false)] {
            if let Some(place) = self.place_of(queue) {
                self.order.entry((owner.tenant_id, queue.1)).or_default().insert(place);
            }
        }
        result
    }

    fn place_of(&self, queue: Queue) -> Option<OrderedQueue> {
        let first = self.waiting.get(&queue)?.front()?;
        Some((self.held_by(queue.0).0, first.arrival, queue))
    }

    fn add(&mut self, owner: ByteOwner, bytes: usize) {
        self.held += bytes;
        *self.by_tenant.entry(owner.tenant_id).or_default() += bytes;
        *self.by_key.entry(owner).or_default() += bytes;
    }

    fn remove(&mut self, owner: ByteOwner, bytes: usize) {
        self.held -= bytes;
        if let Some(held) = self.by_tenant.get_mut(&owner.tenant_id) {
            *held -= bytes;
            if *held == 0 {
                self.by_tenant.remove(&owner.tenant_id);
            }
        }
        if let Some(held) = self.by_key.get_mut(&owner) {
            *held -= bytes;
            if *held == 0 {
                self.by_key.remove(&owner);
            }
        }
    }

    /// Removes waiters of a queue that are not wanted any more, or the first one.
    fn leave(&mut self, queue: Queue, leave: impl FnOnce(&mut VecDeque<Waiter>)) {
        self.change(queue.0, |state| {
            let Some(waiters) = state.waiting.get_mut(&queue) else { return };
            leave(waiters);
            if waiters.is_empty() {
                state.waiting.remove(&queue);
            }
        });
    }

    /// The oldest waiter of the queue that is served next.
    fn next(&self, limits: &ByteLimits) -> Option<(Queue, usize)> {
        // In each tenant, the key that holds least: if its request does not fit, no one of that
        // tenant passes it by.
        let first_of_each = self.order.values().filter_map(|queued| queued.first());
        let fitting = first_of_each.filter_map(|(of_key, arrival, queue)| {
            let bytes = self.waiting.get(queue)?.front()?.bytes;
            let fits = limits.fit(self, queue.0, bytes);
            fits.then_some((of_key + self.held_by(queue.0).1, arrival, *queue, bytes))
        });
        fitting.min().map(|(_, _, queue, bytes)| (queue, bytes))
    }
}

impl ByteSharesInner {
    fn lock(&self) -> MutexGuard<'_, ByteSharesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(
        self: &Arc<Self>,
        state: &mut ByteSharesState,
        owner: ByteOwner,
        bytes: usize,
    ) -> HeldBytes {
        state.change(owner, |state| state.add(owner, bytes));
        HeldBytes { shared: Arc::clone(self), owner, bytes }
    }

    /// Grants what fits. Returns the grants whose waiters are gone; the caller drops them without the lock.
    #[must_use]
    fn grant(self: &Arc<Self>, state: &mut ByteSharesState) -> Vec<HeldBytes> {
        let mut unwanted = Vec::new();
        while let Some((queue, bytes)) = state.next(&self.limits) {
            let mut first = None;
            state.leave(queue, |waiters| first = waiters.pop_front());
            let held = self.take(state, queue.0, bytes);
            unwanted.extend(first.and_then(|waiter| waiter.granted.send(held).err()));
        }
        unwanted
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.change(self.owner, |state| state.remove(self.owner, self.bytes));
        let unwanted = self.shared.grant(&mut state);
        drop(state);
        drop(unwanted);
        self.shared.freed.add(self.bytes);
    }
}

/// An entry of the queue, removed when dropped.
struct QueueEntry {
    shared: Arc<ByteSharesInner>,
    queue: Queue,
    granted: oneshot::Receiver<HeldBytes>,
    is_waiting: bool,
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        if !self.is_waiting {
            return;
        }
        self.granted.close();
        // Bytes that were granted at this moment.
        drop(self.granted.try_recv());
        let mut state = self.shared.lock();
        state.leave(self.queue, |waiters| waiters.retain(|one| !one.granted.is_closed()));
        // It may have been in front of one that fits.
        let unwanted = self.shared.grant(&mut state);
        drop(state);
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MIB: usize = 1024 * 1024;
    const LIMITS: ByteLimits = ByteLimits { key: 16 * MIB, tenant: 32 * MIB, all: 64 * MIB };

    fn owner(tenant_id: TenantId) -> ByteOwner {
        ByteOwner { tenant_id, key_id: Uuid::now_v7() }
    }

    fn now(shares: &ByteShares, owner: ByteOwner, bytes: usize) -> Option<HeldBytes> {
        // Without the runtime's budget, which ends after some permits.
        tokio::task::unconstrained(shares.acquire(owner, bytes)).now_or_never()
    }

    fn fill(shares: &ByteShares, owner: ByteOwner, bytes: usize) -> Vec<HeldBytes> {
        std::iter::from_fn(|| now(shares, owner, bytes)).collect()
    }

    #[tokio::test]
    async fn tenant_that_takes_all_it_can_leaves_room_for_the_others() {
        let shares = ByteShares::new(LIMITS, FreedMemory::default());
        let mut held = Vec::new();
        for tenants in 1..=6 {
            let greedy = TenantId::new();
            for _ in 0..8 {
                let key = owner(greedy);
                held.extend(fill(&shares, key, 2 * MIB));
                held.extend(fill(&shares, key, MAX_SMALL_BYTES));
            }
            let other = owner(TenantId::new());
            let largest = now(&shares, other, 2 * MIB);
            assert!(largest.is_some() || tenants > 2, "{tenants} hold {}", shares.held());
            let small = now(&shares, other, MAX_SMALL_BYTES);
            assert!(small.is_some(), "{tenants} tenants hold {}", shares.held());
        }
        assert!(shares.held() <= LIMITS.all);
        drop(held);
        assert_eq!(shares.held(), 0);
        let state = shares.0.lock();
        assert!(state.by_key.is_empty() && state.by_tenant.is_empty() && state.waiting.is_empty());
    }

    #[tokio::test]
    async fn key_that_takes_all_it_can_leaves_room_for_the_others_of_its_tenant() {
        let shares = ByteShares::new(LIMITS, FreedMemory::default());
        let tenant = TenantId::new();
        let mut held = Vec::new();
        for keys in 1..=3 {
            held.extend(fill(&shares, owner(tenant), 2 * MIB));
            assert!(now(&shares, owner(tenant), 2 * MIB).is_some(), "{keys} keys");
        }
        held.extend((0..8).flat_map(|_| fill(&shares, owner(tenant), 2 * MIB)));
        assert!(now(&shares, owner(tenant), MAX_SMALL_BYTES).is_some(), "the reserve is left");
        assert!(shares.held() <= LIMITS.tenant - LIMITS.tenant / RESERVE_DIVISOR);
    }

    #[tokio::test]
    async fn waiting_large_request_delays_no_small_one() {
        let shares = ByteShares::new(LIMITS, FreedMemory::default());
        let key = owner(TenantId::new());
        let held = fill(&shares, key, 2 * MIB);
        assert_eq!(held.len() * 2 * MIB, LIMITS.key - LIMITS.key / RESERVE_DIVISOR);
        let mut large = Box::pin(shares.acquire(key, 2 * MIB));
        assert!((&mut large).now_or_never().is_none());
        let small = now(&shares, key, MAX_SMALL_BYTES);
        assert!(small.is_some(), "of the same key");
        drop((small, held));
        assert!(large.now_or_never().is_some(), "the large one fits now");
    }

    #[tokio::test]
    async fn freed_bytes_go_to_the_key_that_holds_least() {
        let shares =
            ByteShares::new(ByteLimits { key: 8, tenant: 8, all: 8 }, FreedMemory::default());
        let (greedy, modest) = (owner(TenantId::new()), owner(TenantId::new()));
        let mut of_greedy = fill(&shares, greedy, 1);
        let of_modest = now(&shares, modest, 1);
        assert_eq!((of_greedy.len(), of_modest.is_some()), (3, true));
        let mut first = Box::pin(shares.acquire(greedy, 1));
        let mut second = Box::pin(shares.acquire(modest, 3));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        // Either would fit now.
        of_greedy.pop();
        let granted = (&mut second).now_or_never();
        assert!(granted.is_some(), "it came later, but its key holds less");
        assert!((&mut first).now_or_never().is_none());
        drop((first, second, granted, of_greedy, of_modest));
        let state = shares.0.lock();
        assert!(state.waiting.is_empty() && state.order.is_empty() && state.held == 0);
    }
}
