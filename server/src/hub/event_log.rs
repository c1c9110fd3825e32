//! A bounded log of recent events by tenant.
//!
//! A reader has a cursor and no queue of its own. A reader that is too slow gets a gap.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::domain::integrations::tenant_event::TenantEvent;

/// Most events in the log, of all tenants together.
const MAX_EVENTS: usize = 10_000;

/// Recent events.
#[derive(Debug)]
pub struct EventLog {
    /// Part of every event id, so that ids of an earlier server process are recognized.
    instance: String,
    rings: Mutex<Rings>,
    readers: watch::Sender<usize>,
    /// True while changes in the database are appended.
    is_recording: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Rings {
    by_tenant: HashMap<TenantId, Ring>,
    /// The tenants of all events, oldest event first.
    order: VecDeque<TenantId>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Number of the oldest event.
    first: u64,
    events: VecDeque<Arc<TenantEvent>>,
    /// Number of the next event.
    next: watch::Sender<u64>,
}

/// Events after a position.
#[derive(Debug)]
pub struct EventBatch {
    /// Each with the position after it.
    pub events: Vec<(u64, Arc<TenantEvent>)>,
    /// The position after these events.
    pub next: u64,
    /// True if events after the position were dropped; `events` is then empty.
    pub has_gap: bool,
}

/// A reader of one tenant's events. While there is one, changes are recorded.
#[derive(Debug)]
pub struct EventCursor {
    log: Arc<EventLog>,
    tenant_id: TenantId,
    next: watch::Receiver<u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            instance: Uuid::new_v4().simple().to_string()[..12].to_owned(),
            rings: Mutex::default(),
            readers: watch::Sender::new(0),
            is_recording: watch::Sender::new(false),
        }
    }
}

impl EventLog {
    /// A reader of a tenant's events. Waits until changes are recorded.
    pub async fn reader(self: &Arc<Self>, tenant_id: TenantId) -> EventCursor {
        let next = self.lock().by_tenant.entry(tenant_id).or_default().next.subscribe();
        self.readers.send_modify(|count| *count += 1);
        let reader = EventCursor { log: Arc::clone(self), tenant_id, next };
        // Cannot fail: the sender is in `self`.
        let _ = self.is_recording.subscribe().wait_for(|is_recording| *is_recording).await;
        reader
    }

    /// Appends an event.
    pub fn append(&self, tenant_id: TenantId, event: TenantEvent) {
        let mut rings = self.lock();
        let ring = rings.by_tenant.entry(tenant_id).or_default();
        ring.events.push_back(Arc::new(event));
        ring.next.send_modify(|next| *next += 1);
        rings.order.push_back(tenant_id);
        if rings.order.len() > MAX_EVENTS {
            rings.drop_oldest();
        }
    }

    /// Records that events are missing: every reader gets a gap.
    pub fn interrupt(&self) {
        let mut rings = self.lock();
        rings.order.clear();
        for ring in rings.by_tenant.values_mut() {
            ring.events.clear();
            // Skips one number, so that a reader that has read everything gets a gap too.
            ring.next.send_modify(|next| *next += 1);
            ring.first = *ring.next.borrow();
        }
    }

    /// Starts recording. Earlier changes were not recorded.
    pub fn start_recording(&self) {
        self.interrupt();
        self.is_recording.send_replace(true);
    }

    /// Stops recording.
    pub fn stop_recording(&self) {
        self.is_recording.send_replace(false);
    }

    /// Number of readers.
    pub fn readers(&self) -> watch::Receiver<usize> {
        self.readers.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    fn drop_oldest(&mut self) {
        let oldest = self.order.pop_front();
        if let Some(ring) = oldest.and_then(|tenant_id| self.by_tenant.get_mut(&tenant_id)) {
            ring.events.pop_front();
            ring.first += 1;
        }
    }
}

impl EventCursor {
    /// The position after the newest event.
    pub fn end(&self) -> u64 {
        *self.next.borrow()
    }

    /// The public id of the event before a position.
    pub fn id_of(&self, position: u64) -> String {
        format!("{}-{position}", self.log.instance)
    }

    /// The position of a public id; `None` if the id is not from this server process.
    pub fn position_of(&self, id: &str) -> Option<u64> {
        let (instance, position) = id.split_once('-')?;
        (instance == self.log.instance).then(|| position.parse().ok())?
    }

    /// At most `limit` events after a position.
    pub fn read(&mut self, position: u64, limit: usize) -> EventBatch {
        let rings = self.log.lock();
        let next = *self.next.borrow_and_update();
        let ring = rings.by_tenant.get(&self.tenant_id);
        let Some(ring) = ring.filter(|ring| (ring.first..=next).contains(&position)) else {
            return EventBatch { events: Vec::new(), next, has_gap: true };
        };
        let skipped = usize::try_from(position - ring.first).unwrap_or(usize::MAX);
        let events = ring.events.iter().skip(skipped).take(limit).cloned();
        let events: Vec<_> = (position + 1..).zip(events).collect();
        let next = position + events.len() as u64;
        EventBatch { events, next, has_gap: false }
    }

    /// Waits for an event that the last [`Self::read`] did not see.
    pub async fn more(&mut self) {
        // Cannot fail: this reader keeps the sender alive.
        let _ = self.next.changed().await;
    }
}

impl Drop for EventCursor {
    fn drop(&mut self) {
        self.log.readers.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::AgentId;

    async fn recording() -> (Arc<EventLog>, TenantId, EventCursor) {
        let event_log = Arc::new(EventLog::default());
        event_log.start_recording();
        let tenant_id = TenantId::new();
        let reader = event_log.reader(tenant_id).await;
        (event_log, tenant_id, reader)
    }

    fn event() -> TenantEvent {
        TenantEvent::Agent { id: AgentId::new(), is_connected: true, manifest: None }
    }

    #[tokio::test]
    async fn reader_gets_each_event_of_its_tenant_once() {
        let (event_log, tenant_id, mut reader) = recording().await;
        let mut position = reader.end();
        let sent: Vec<_> = (0..5).map(|_| event()).collect();
        for event in &sent {
            event_log.append(tenant_id, event.clone());
            event_log.append(TenantId::new(), event.clone());
        }
        let mut seen = Vec::new();
        while seen.len() < 5 {
            let found = reader.read(position, 2);
            assert!(!found.has_gap && found.events.len() <= 2);
            assert_eq!(found.events.last().map(|(number, _)| *number), Some(found.next));
            seen.extend(found.events.into_iter().map(|(_, event)| (*event).clone()));
            position = found.next;
        }
        assert_eq!(seen, sent);
        assert_eq!(reader.position_of(&reader.id_of(position)), Some(position));
        assert_eq!(reader.position_of(&format!("another-{position}")), None);
    }

    #[tokio::test]
    async fn slow_or_interrupted_reader_gets_a_gap() {
        let (event_log, tenant_id, mut reader) = recording().await;
        let position = reader.end();
        for _ in 0..=MAX_EVENTS {
            event_log.append(tenant_id, event());
        }
        assert!(reader.read(position, 10).has_gap);
        let position = reader.read(position, 10).next;
        assert!(!reader.read(position, 10).has_gap);
        event_log.interrupt();
        assert!(reader.read(position, 10).has_gap);
        assert!(reader.read(u64::MAX, 10).has_gap, "a position beyond the end");
    }

    #[tokio::test]
    async fn events_of_a_busy_tenant_replace_the_oldest_events() {
        let (event_log, tenant_id, mut reader) = recording().await;
        let position = reader.end();
        event_log.append(tenant_id, event());
        let busy = TenantId::new();
        for _ in 1..MAX_EVENTS {
            event_log.append(busy, event());
        }
        assert_eq!(reader.read(position, 10).events.len(), 1);
        event_log.append(busy, event());
        assert!(reader.read(position, 10).has_gap);
        assert_eq!(event_log.lock().order.len(), MAX_EVENTS);
    }
}
