//! Live streams whose key is revoked, and the shares of tenants.

use std::sync::Arc;

use muster_tests::TestDir;

use super::{
    MAX_FROM_RESERVE, MAX_IN_ALL, MAX_OF_KEY, MAX_OF_TENANT, OpenStreams, RESERVED, StreamPermits,
};
use crate::domain::access::principal::Role;
use crate::domain::ids::{AgentId, PrincipalId, TenantId};
use crate::domain::integrations::tenant_event::{EventFilter, TenantEvent};
use crate::domain::time::Clock;
use crate::hub::Hub;
use crate::services::access::authentication::Authentication;
use crate::services::access::caller::Caller;
use crate::services::access::keys::api_keys::{ApiKeys, NewApiKey};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::keys::key_uses::KeyUses;
use crate::services::access::keys::lookup_limiter::LookupLimiter;
use crate::services::access::keys::requested_limits::RequestedLimits;
use crate::services::integrations::events::{Events, StreamItem};
use crate::store::Store;
use crate::store::queries::RevocationScope;

const KEY: &str = "mst_live_0123456789abcdef0123456789abcdef";

/// A store with one key and its caller.
pub(in crate::services) struct Onlooker {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) viewers: StreamPermits,
    pub(in crate::services) caller: Caller,
    api_keys: ApiKeys,
    _site: TestDir,
}

impl Onlooker {
    pub(in crate::services) async fn new() -> Self {
        let (test_dir, clock, cache) = (TestDir::new(), Clock::system(), KeyCache::default());
        let data_dir = test_dir.folder("data");
        let url = format!("sqlite:{}", data_dir.join("muster.db").display());
        let store = Store::open(&url, &data_dir).await.expect("open the store");
        let authentication = Authentication {
            store: store.clone(),
            cache: cache.clone(),
            clock: clock.clone(),
            lookups: LookupLimiter::default(),
            uses: KeyUses::default(),
            tokens: None,
        };
        authentication.bootstrap(&data_dir, Some(KEY)).await.expect("create the first key");
        let hub = Arc::new(Hub::default());
        let principal = authentication.authenticate_caller(KEY, None).await.expect("it holds");
        Self {
            viewers: StreamPermits::new(store.clone(), cache.clone(), clock.clone()),
            api_keys: ApiKeys {
                store: store.clone(),
                hub: Arc::clone(&hub),
                cache,
                clock,
                uses: KeyUses::default(),
            },
            hub,
            caller: Caller { principal, source: None, request_id: None, certificate: None },
            store,
            _site: test_dir,
        }
    }

    pub(in crate::services) async fn revoke_key(&self) {
        // The last key cannot be revoked.
        let heir = NewApiKey {
            name: "heir".into(),
            role: Role::Owner,
            scopes: Some(self.caller.principal.scopes.iter().copied().collect()),
            expires_at: None,
            limits: RequestedLimits::default(),
        };
        self.api_keys.create(&self.caller, heir).await.expect("another key");
        let id = self.caller.principal.api_key_id().expect("a key");
        let scope = RevocationScope::default();
        self.api_keys.revoke(&self.caller, id, scope).await.expect("revoke");
    }
}

#[tokio::test]
async fn events_read_before_a_key_was_revoked_are_not_sent_after() {
    let onlooker = Onlooker::new().await;
    let (store, hub, viewers) =
        (onlooker.store.clone(), Arc::clone(&onlooker.hub), onlooker.viewers.clone());
    onlooker.hub.event_log.start_recording();
    let events = Events { store, hub, viewers };
    let mut view =
        events.open(&onlooker.caller, EventFilter::default(), None).await.expect("a view");
    assert!(matches!(view.next().await, Ok(Some(StreamItem::Ready { .. }))));
    let tenant_id = onlooker.caller.principal.tenant_id;
    for _ in 0..3 {
        let event = TenantEvent::Agent { id: AgentId::new(), is_connected: true, manifest: None };
        onlooker.hub.event_log.append(tenant_id, event);
    }
    assert!(matches!(view.next().await, Ok(Some(StreamItem::Event { .. }))));
    onlooker.revoke_key().await;
    let shown = view.next().await;
    assert!(matches!(shown, Ok(None)), "{shown:?}");
}

#[test]
fn streams_of_one_tenant_leave_slots_for_the_others() {
    let mut open_streams = OpenStreams::default();
    let mut open = |tenant: TenantId, wanted: usize| {
        let keys: Vec<_> = (0..wanted.div_ceil(MAX_OF_KEY)).map(|_| PrincipalId::new()).collect();
        (0..wanted).filter(|index| open_streams.add(keys[index / MAX_OF_KEY], tenant)).count()
    };
    let (first, second, third) = (TenantId::new(), TenantId::new(), TenantId::new());
    assert_eq!(open(first, MAX_IN_ALL), MAX_OF_TENANT);
    assert_eq!(open(second, MAX_IN_ALL), MAX_IN_ALL - MAX_OF_TENANT - RESERVED);
    assert_eq!(open(third, MAX_IN_ALL), MAX_FROM_RESERVE, "the reserve is for its first streams");
}

#[test]
fn closed_streams_free_their_slots() {
    let mut open_streams = OpenStreams::default();
    let (key_id, tenant_id) = (PrincipalId::new(), TenantId::new());
    for _ in 0..MAX_OF_KEY {
        assert!(open_streams.add(key_id, tenant_id));
    }
    assert!(!open_streams.add(key_id, tenant_id));
    for _ in 0..MAX_OF_KEY {
        open_streams.remove(key_id, tenant_id);
    }
    assert_eq!(open_streams.count, 0);
    assert!(open_streams.by_key.is_empty() && open_streams.by_tenant.is_empty());
}
