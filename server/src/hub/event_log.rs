//! What happened lately, tenant by tenant, for whoever looks on or comes back in time.
//!
//! Readers have a place in it and no queue of their own: one that is too slow finds a gap.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::domain::integrations::tenant_event::TenantEvent;

/// Events that are remembered, of all tenants together.
const MAX_EVENTS: usize = 10_000;

/// Recent events.
#[derive(Debug)]
pub struct EventLog {
    /// Tells events of this server's life from those of another.
    mark: String,
    rings: Mutex<Rings>,
    readers: watch::Sender<usize>,
    /// True while what changes in the database is told here.
    is_fed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Rings {
    by_tenant: HashMap<TenantId, Ring>,
    /// Whose events are remembered, oldest first.
    order: VecDeque<TenantId>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the oldest event that is remembered.
    first: u64,
    events: VecDeque<Arc<TenantEvent>>,
    /// The number that the next event gets.
    next: watch::Sender<u64>,
}

/// What a reader finds behind its place.
#[derive(Debug)]
pub struct Found {
    /// With their numbers.
    pub events: Vec<(u64, Arc<TenantEvent>)>,
    /// The reader's new place.
    pub next: u64,
    /// True if something was told that is remembered no longer; then no events are given.
    pub has_gap: bool,
}

/// One reader; while there is one, what changes in the database is told.
#[derive(Debug)]
pub struct Reader {
    timeline: Arc<EventLog>,
    tenant_id: TenantId,
    next: watch::Receiver<u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            mark: Uuid::new_v4().simple().to_string()[..12].to_owned(),
            rings: Mutex::default(),
            readers: watch::Sender::new(0),
            is_fed: watch::Sender::new(false),
        }
    }
}

impl EventLog {
    /// Begins to read a tenant's events, once everything that happens is told.
    pub async fn reader(self: &Arc<Self>, tenant_id: TenantId) -> Reader {
        let next = self.lock().by_tenant.entry(tenant_id).or_default().next.subscribe();
        self.readers.send_modify(|count| *count += 1);
        let reader = Reader { timeline: Arc::clone(self), tenant_id, next };
        // The sender is in this very timeline.
        let _ = self.is_fed.subscribe().wait_for(|is_fed| *is_fed).await;
        reader
    }

    /// Tells an event.
    pub fn tell(&self, tenant_id: TenantId, event: TenantEvent) {
        let mut rings = self.lock();
        let ring = rings.by_tenant.entry(tenant_id).or_default();
        ring.events.push_back(Arc::new(event));
        ring.next.send_modify(|next| *next += 1);
        rings.order.push_back(tenant_id);
        if rings.order.len() > MAX_EVENTS {
            rings.forget_oldest();
        }
    }

    /// Says that something happened that was not told: every reader finds a gap.
    pub fn interrupt(&self) {
        let mut rings = self.lock();
        rings.order.clear();
        for ring in rings.by_tenant.values_mut() {
            ring.events.clear();
            // A number that no event has, so that a reader who has seen all finds a gap too.
            ring.next.send_modify(|next| *next += 1);
            ring.first = *ring.next.borrow();
        }
    }

    /// From here on what happens is told. What did before was not.
    pub fn begin(&self) {
        self.interrupt();
        self.is_fed.send_replace(true);
    }

    /// From here on what happens is not told.
    pub fn end(&self) {
        self.is_fed.send_replace(false);
    }

    /// How many read.
    pub fn readers(&self) -> watch::Receiver<usize> {
        self.readers.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    fn forget_oldest(&mut self) {
        let oldest = self.order.pop_front();
        if let Some(ring) = oldest.and_then(|tenant_id| self.by_tenant.get_mut(&tenant_id)) {
            ring.events.pop_front();
            ring.first += 1;
        }
    }
}

impl Reader {
    /// The place behind everything that was told so far.
    pub fn end(&self) -> u64 {
        *self.next.borrow()
    }

    /// What an event is called outside: the place behind it.
    pub fn id_of(&self, place: u64) -> String {
        format!("{}-{place}", self.timeline.mark)
    }

    /// The place that an id names; `None` if it is not of this server's life.
    pub fn place_of(&self, id: &str) -> Option<u64> {
        let (mark, place) = id.split_once('-')?;
        (mark == self.timeline.mark).then(|| place.parse().ok())?
    }

    /// At most `limit` events behind a place.
    pub fn read(&mut self, place: u64, limit: usize) -> Found {
        let rings = self.timeline.lock();
        let next = *self.next.borrow_and_update();
        let ring = rings.by_tenant.get(&self.tenant_id);
        let Some(ring) = ring.filter(|ring| (ring.first..=next).contains(&place)) else {
            return Found { events: Vec::new(), next, has_gap: true };
        };
        let skipped = usize::try_from(place - ring.first).unwrap_or(usize::MAX);
        let events = ring.events.iter().skip(skipped).take(limit).cloned();
        let events: Vec<_> = (place + 1..).zip(events).collect();
        let next = place + events.len() as u64;
        Found { events, next, has_gap: false }
    }

    /// Waits until there is more than [`Self::read`] last found in all.
    pub async fn more(&mut self) {
        // The sender is in the timeline that this reader holds.
        let _ = self.next.changed().await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.timeline.readers.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::AgentId;

    async fn fed() -> (Arc<EventLog>, TenantId, Reader) {
        let timeline = Arc::new(EventLog::default());
        timeline.begin();
        let tenant_id = TenantId::new();
        let reader = timeline.reader(tenant_id).await;
        (timeline, tenant_id, reader)
    }

    fn event() -> TenantEvent {
        TenantEvent::Agent { id: AgentId::new(), is_connected: true }
    }

    #[tokio::test]
    async fn a_reader_finds_each_event_once_and_none_of_another_tenant() {
        let (timeline, tenant_id, mut reader) = fed().await;
        let mut place = reader.end();
        let told: Vec<_> = (0..5).map(|_| event()).collect();
        for event in &told {
            timeline.tell(tenant_id, event.clone());
            timeline.tell(TenantId::new(), event.clone());
        }
        let mut seen = Vec::new();
        while seen.len() < 5 {
            let found = reader.read(place, 2);
            assert!(!found.has_gap && found.events.len() <= 2);
            assert_eq!(found.events.last().map(|(number, _)| *number), Some(found.next));
            seen.extend(found.events.into_iter().map(|(_, event)| (*event).clone()));
            place = found.next;
        }
        assert_eq!(seen, told);
        assert_eq!(reader.place_of(&reader.id_of(place)), Some(place));
        assert_eq!(reader.place_of(&format!("another-{place}")), None);
    }

    #[tokio::test]
    async fn whoever_is_too_slow_or_missed_an_interruption_finds_a_gap() {
        let (timeline, tenant_id, mut reader) = fed().await;
        let place = reader.end();
        for _ in 0..=MAX_EVENTS {
            timeline.tell(tenant_id, event());
        }
        assert!(reader.read(place, 10).has_gap);
        let place = reader.read(place, 10).next;
        assert!(!reader.read(place, 10).has_gap);
        timeline.interrupt();
        assert!(reader.read(place, 10).has_gap);
        assert!(reader.read(u64::MAX, 10).has_gap, "no place at all");
    }

    #[tokio::test]
    async fn a_busy_tenant_takes_the_places_of_what_is_oldest() {
        let (timeline, tenant_id, mut reader) = fed().await;
        let place = reader.end();
        timeline.tell(tenant_id, event());
        let busy = TenantId::new();
        for _ in 1..MAX_EVENTS {
            timeline.tell(busy, event());
        }
        assert_eq!(reader.read(place, 10).events.len(), 1);
        timeline.tell(busy, event());
        assert!(reader.read(place, 10).has_gap);
        assert_eq!(timeline.lock().order.len(), MAX_EVENTS);
    }
}
