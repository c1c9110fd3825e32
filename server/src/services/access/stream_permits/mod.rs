//! Permits for live streams: how many may be open, and until when each is authorised.
//!
//! This module does not know what is streamed.

#[cfg(test)]
pub(in crate::services) mod tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::authentication::reread;
use super::caller::Caller;
use super::keys::key_cache::KeyCache;
use crate::domain::access::principal::{Principal, Scope};
use crate::domain::certificates::client_certificate::KeyHash;
use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::time::{Clock, Timestamp};
use crate::services::error::{Result, ServiceError};
use crate::store::{Store, StoreError};

/// Live streams of one API key or member.
const MAX_OF_KEY: usize = 64;
/// Live streams in total. Each may hold 1 MiB of output.
const MAX_IN_ALL: usize = 512;
/// Live streams of one tenant.
const MAX_OF_TENANT: usize = 256;
/// Places that only tenants with few streams get, so that a tenant's first streams find one.
const RESERVED: usize = 128;
/// Streams of a tenant that may use the reserved places.
const MAX_FROM_RESERVE: usize = 16;
/// Longest single wait for the expiry of a key. A longer wait is split.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// Issues permits, and ends all of them when the server stops. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamPermits {
    store: Store,
    cache: KeyCache,
    clock: Clock,
    open_streams: Arc<Mutex<OpenStreams>>,
    closing: Arc<watch::Sender<bool>>,
}

#[derive(Debug, Default)]
struct OpenStreams {
    count: usize,
    by_key: HashMap<PrincipalId, usize>,
    by_tenant: HashMap<TenantId, usize>,
}

impl OpenStreams {
    /// Counts a stream; false at a limit.
    fn add(&mut self, key_id: PrincipalId, tenant_id: TenantId) -> bool {
        let of_key = self.by_key.get(&key_id).copied().unwrap_or(0);
        let of_tenant = self.by_tenant.get(&tenant_id).copied().unwrap_or(0);
        let max_in_all = match of_tenant < MAX_FROM_RESERVE {
            true => MAX_IN_ALL,
            false => MAX_IN_ALL - RESERVED,
        };
        if of_key >= MAX_OF_KEY || of_tenant >= MAX_OF_TENANT || self.count >= max_in_all {
            return false;
        }
        self.count += 1;
        self.by_key.insert(key_id, of_key + 1);
        self.by_tenant.insert(tenant_id, of_tenant + 1);
        true
    }

    fn remove(&mut self, key_id: PrincipalId, tenant_id: TenantId) {
        self.count = self.count.saturating_sub(1);
        remove_one(&mut self.by_key, key_id);
        remove_one(&mut self.by_tenant, tenant_id);
    }
}

fn remove_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// The right to run one live stream. Dropping it frees its slot.
#[derive(Debug)]
pub struct StreamPermit {
    viewers: StreamPermits,
    principal: Arc<Principal>,
    /// The certificate of its connection, where one is required.
    certificate: Option<KeyHash>,
    key_changes: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    /// When the key or the access token expires, as of the last check.
    expires_at: Option<Timestamp>,
    /// The key must be checked before more is sent.
    is_in_doubt: bool,
}

impl StreamPermits {
    pub(in crate::services) fn new(store: Store, cache: KeyCache, clock: Clock) -> Self {
        Self { store, cache, clock, open_streams: Arc::default(), closing: Arc::default() }
    }

    /// Acquires a permit.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`] at the limits, [`ServiceError::Busy`] while the server stops.
    pub(in crate::services) fn admit(&self, caller: &Caller) -> Result<StreamPermit> {
        let key_changes = self.cache.principal_changes();
        let closing = self.closing.subscribe();
        if *closing.borrow() {
            let detail = "the server is stopping; try again in a moment";
            return Err(ServiceError::Busy { code: "server_stopping", detail });
        }
        let mut open_streams = self.open_streams.lock().unwrap_or_else(PoisonError::into_inner);
        if !open_streams.add(caller.principal.id, caller.principal.tenant_id) {
            return Err(ServiceError::TooMany {
                code: "too_many_streams",
                detail: "too many live streams are open; close some, or try again later",
            });
        }
        drop(open_streams);
        Ok(StreamPermit {
            viewers: self.clone(),
            principal: Arc::clone(&caller.principal),
            certificate: caller.certificate,
            key_changes,
            closing,
            expires_at: None,
            // The expiry is not known yet, and the key may have changed since the request was
            // authenticated.
            is_in_doubt: true,
        })
    }

    /// Ends every live stream, and issues no more permits.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl StreamPermit {
    /// True while more may be sent. Call it before each event; it is free unless a key has changed.
    ///
    /// # Errors
    /// [`StoreError`] if the key had to be checked and could not be read.
    pub(in crate::services) async fn may_see(
        &mut self,
        scopes: &[Scope],
    ) -> std::result::Result<bool, StoreError> {
        let is_closed = self.viewers.cache.is_closed(self.principal.tenant_id);
        if *self.closing.borrow() || is_closed || self.is_expired() {
            return Ok(false);
        }
        if self.key_changes.has_changed().unwrap_or(false) {
            self.key_changes.mark_unchanged();
            self.is_in_doubt = true;
        }
        if self.is_in_doubt {
            let principal = reread(&self.viewers.store, &self.principal).await?;
            let Some(principal) = principal else { return Ok(false) };
            if let Some(key) = self.certificate {
                let (tenant, now) =
                    (self.viewers.store.tenant(principal.tenant_id), self.viewers.clock.now());
                if !tenant.is_certificate_valid(key, now).await? {
                    return Ok(false);
                }
            }
            self.expires_at = principal.expires_at;
            self.principal = Arc::new(principal);
            self.is_in_doubt = false;
        }
        Ok(!self.is_expired() && scopes.iter().all(|scope| self.principal.may(*scope)))
    }

    /// Waits until [`Self::may_see`] must be called again. Safe to cancel.
    pub(in crate::services) async fn recheck(&mut self) {
        let until_end = match self.expires_at {
            Some(at) => Duration::from_millis(at.ms_since(self.viewers.clock.now()) + 1),
            None => LONGEST_WAIT,
        };
        tokio::select! {
            _ = self.key_changes.changed() => self.is_in_doubt = true,
            _ = self.closing.changed() => {}
            () = tokio::time::sleep(until_end.min(LONGEST_WAIT)) => {}
        }
    }

    fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= self.viewers.clock.now())
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open_streams =
            self.viewers.open_streams.lock().unwrap_or_else(PoisonError::into_inner);
        open_streams.remove(self.principal.id, self.principal.tenant_id);
    }
}
