//! What happens in a tenant, told while it happens.

mod publisher;

use std::collections::VecDeque;
use std::sync::Arc;

pub use self::publisher::Telling;
use crate::domain::access::principal::Scope;
use crate::domain::integrations::tenant_event::{EventFilter, EventKind, TenantEvent};
use crate::hub::{EventCursor, Hub};
use crate::services::access::caller::Caller;
use crate::services::access::stream_permits::{StreamPermit, StreamPermits};
use crate::services::error::Result;
use crate::store::{Store, StoreError};

/// Events that a view holds in memory at once.
const READ: usize = 256;

/// Use cases of events.
#[derive(Clone, Debug)]
pub struct Events {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) viewers: StreamPermits,
}

/// What a viewer is shown.
#[derive(Debug)]
pub enum Shown {
    /// From here on everything is shown.
    Ready {
        id: String,
    },
    /// Something was missed: what is shown elsewhere has to be read again.
    Reset {
        id: String,
    },
    Event {
        id: String,
        event: Arc<TenantEvent>,
    },
}

/// One viewer's view of a tenant.
#[derive(Debug)]
pub struct EventView {
    viewer: StreamPermit,
    reader: EventCursor,
    filter: EventFilter,
    scopes: Vec<Scope>,
    place: u64,
    ready: VecDeque<Shown>,
}

impl Events {
    /// Begins to tell what happens.
    pub fn telling(&self) -> Telling {
        Telling::new(self.store.clone(), Arc::clone(&self.hub))
    }

    /// Begins to show what happens from now on, or behind the event with this id.
    ///
    /// Without kinds it shows those that the caller may see.
    ///
    /// # Errors
    /// `missing_scope` for a kind that the caller may not see; `too_many_streams` at the bounds.
    pub async fn open(
        &self,
        caller: &Caller,
        mut filter: EventFilter,
        last_id: Option<&str>,
    ) -> Result<EventView> {
        if filter.kinds.is_empty() {
            let may_see = |kind: &EventKind| caller.principal.may(scope_of(*kind));
            filter.kinds = EventKind::ALL.into_iter().filter(may_see).collect();
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
            Some(None) => (end, Some(Shown::Reset { id: reader.id_of(end) })),
            None => (end, Some(Shown::Ready { id: reader.id_of(end) })),
        };
        let ready = first.into_iter().collect();
        Ok(EventView { viewer, reader, filter, scopes, place, ready })
    }
}

impl EventView {
    /// What is shown next; `None` when the right to see has ended.
    ///
    /// # Errors
    /// [`StoreError`]; the viewer comes back with the id that it has reached.
    pub async fn next(&mut self) -> std::result::Result<Option<Shown>, StoreError> {
        loop {
            // Before each event: what was read for one who may see is not shown to one who may not.
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
                self.ready.push_back(Shown::Reset { id: self.reader.id_of(self.place) });
            }
            for (number, event) in found.events {
                if self.filter.matches(&event) {
                    self.ready.push_back(Shown::Event { id: self.reader.id_of(number), event });
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

fn scope_of(kind: EventKind) -> Scope {
    match kind {
        EventKind::Execution | EventKind::Job => Scope::CommandsRead,
        EventKind::Agent => Scope::AgentsRead,
    }
}
