//! The live event feed of a tenant.

mod publisher;

use std::collections::VecDeque;
use std::sync::Arc;

pub use self::publisher::EventPublisher;
use crate::domain::access::principal::Scope;
use crate::domain::integrations::tenant_event::{EventFilter, TenantEvent, TenantEventKind};
use crate::hub::{EventCursor, Hub};
use crate::services::access::caller::Caller;
use crate::services::access::stream_permits::{StreamPermit, StreamPermits};
use crate::services::error::Result;
use crate::store::{Store, StoreError};

/// Events that one stream holds in memory.
const READ: usize = 256;

/// Use cases of events.
#[derive(Clone, Debug)]
pub struct Events {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) viewers: StreamPermits,
}

/// An item of a stream.
#[derive(Debug)]
pub enum StreamItem {
    /// The stream is complete from here on.
    Ready {
        id: String,
    },
    /// Events were missed. The client must read its data again.
    Reset {
        id: String,
    },
    Event {
        id: String,
        event: Arc<TenantEvent>,
    },
}

/// One client's stream of a tenant's events.
#[derive(Debug)]
pub struct EventStream {
    viewer: StreamPermit,
    reader: EventCursor,
    filter: EventFilter,
    scopes: Vec<Scope>,
    place: u64,
    ready: VecDeque<StreamItem>,
}

impl Events {
    /// Starts to publish events.
    pub fn publisher(&self) -> EventPublisher {
        EventPublisher::new(self.store.clone(), Arc::clone(&self.hub))
    }

    /// Opens a stream of the events from now on, or after the event with this id.
    ///
    /// Without kinds it contains every kind that the caller may see.
    ///
    /// # Errors
    /// `missing_scope` for a kind that the caller may not see; `too_many_streams` at the limits.
    pub async fn open(
        &self,
        caller: &Caller,
        mut filter: EventFilter,
        last_id: Option<&str>,
    ) -> Result<EventStream> {
        if filter.kinds.is_empty() {
            let may_see = |kind: &TenantEventKind| caller.principal.may(scope_of(*kind));
            filter.kinds = TenantEventKind::ALL.into_iter().filter(may_see).collect();
        }
        let mut scopes: Vec<_> = filter.kinds.iter().map(|kind| scope_of(*kind)).collect();
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            scopes.push(Scope::CommandsRead);
        }
        for scope in &scopes {
            caller.require(*scope)?;
        }
        let viewer = self.viewers.admit(caller)?;
        let reader = self.hub.event_log.reader(caller.principal.tenant_id).await;
        let end = reader.end();
        let (place, first) = match last_id.map(|id| reader.position_of(id)) {
            Some(Some(place)) => (place, None),
            Some(None) => (end, Some(StreamItem::Reset { id: reader.id_of(end) })),
            None => (end, Some(StreamItem::Ready { id: reader.id_of(end) })),
        };
        let ready = first.into_iter().collect();
        Ok(EventStream { viewer, reader, filter, scopes, place, ready })
    }
}

impl EventStream {
    /// The next item; `None` when the caller's right to see has ended.
    ///
    /// # Errors
    /// [`StoreError`]; the client reconnects with the last id that it received.
    pub async fn next(&mut self) -> std::result::Result<Option<StreamItem>, StoreError> {
        loop {
            // Checked before each event, because the right may end after the event was read.
            if !self.viewer.may_see(&self.scopes).await? {
                self.ready.clear();
                return Ok(None);
            }
            if let Some(shown) = self.ready.pop_front() {
                return Ok(Some(shown));
            }
            let found = self.reader.read(self.place, READ);
            let has_moved = found.next != self.place;
            self.place = found.next;
            if found.has_gap {
                self.ready.push_back(StreamItem::Reset { id: self.reader.id_of(self.place) });
            }
            for (number, event) in found.events {
                if self.filter.matches(&event) {
                    self.ready
                        .push_back(StreamItem::Event { id: self.reader.id_of(number), event });
                }
            }
            if self.ready.is_empty() && !has_moved {
                tokio::select! {
                    () = self.reader.more() => {}
                    () = self.viewer.recheck() => {}
                }
            }
        }
    }
}

fn scope_of(kind: TenantEventKind) -> Scope {
    match kind {
        TenantEventKind::Execution | TenantEventKind::Job | TenantEventKind::Approval => {
            Scope::CommandsRead
        }
        TenantEventKind::Agent | TenantEventKind::AgentRefused => Scope::AgentsRead,
        TenantEventKind::Alert | TenantEventKind::AlertRule => Scope::IntegrationsRead,
    }
}
