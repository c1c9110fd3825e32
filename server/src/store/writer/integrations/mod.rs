//! The outbox: events of the transaction in progress become messages of integrations, at its end.

mod grouped;
pub mod queue;
mod schedule_health;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _,
};
use tokio::sync::Notify;

use crate::domain::ids::TenantId;
use crate::domain::integrations::event_type::EventGroup;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::store::entities::integrations::integration;
use crate::store::writer::rows::pad_to_power_of_two;

/// Notified after a commit that wrote to the outbox, or after which agents are online or offline.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct OutboxShared {
    written: Arc<Notify>,
    presence: Arc<Notify>,
}

impl OutboxShared {
    /// Waits for a commit that wrote to the outbox; returns at once if there was one before.
    pub(in crate::store) async fn written(&self) {
        self.written.notified().await;
    }

    /// Waits for a commit after which an agent is online or offline; returns at once if there was one
    /// before.
    pub(in crate::store) async fn presence_changed(&self) {
        self.presence.notified().await;
    }
}

/// The events of the transaction in progress.
pub(in crate::store::writer) struct OutboxEvents {
    shared: OutboxShared,
    state: Mutex<OutboxEventsState>,
}

#[derive(Default)]
struct OutboxEventsState {
    events: Vec<IntegrationEvent>,
    has_written: bool,
    has_presence: bool,
}

impl OutboxEvents {
    pub(in crate::store::writer) fn new(shared: OutboxShared) -> Self {
        Self { shared, state: Mutex::default() }
    }

    /// Adds events to the transaction. They are stored by [`store_events`].
    pub(in crate::store::writer) fn append(
        &self,
        events: impl IntoIterator<Item = IntegrationEvent>,
    ) {
        let mut state = self.state();
        for event in events {
            state.has_presence |= event.event.group() == Some(EventGroup::Presence);
            state.events.push(event);
        }
    }

    /// Starts a transaction, without what the last one left if it failed.
    pub(in crate::store::writer) fn begin(&self) {
        *self.state() = OutboxEventsState::default();
    }

    /// After a commit.
    pub(in crate::store::writer) fn committed(&self) {
        let (has_written, has_presence) = {
            let mut state = self.state();
            (std::mem::take(&mut state.has_written), std::mem::take(&mut state.has_presence))
        };
        if has_written {
            self.shared.written.notify_one();
        }
        if has_presence {
            self.shared.presence.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, OutboxEventsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores a message for each event and integration that takes it. Without an integration it costs one
/// query for a transaction with events.
pub(in crate::store::writer) async fn store_events(
    transaction: &DatabaseTransaction,
    outbox: &OutboxEvents,
) -> Result<(), DbErr> {
    let events = std::mem::take(&mut outbox.state().events);
    if events.is_empty() {
        return Ok(());
    }
    let mut by_tenant: BTreeMap<TenantId, Vec<IntegrationEvent>> = BTreeMap::new();
    for event in events {
        by_tenant.entry(event.tenant_id).or_default().push(event);
    }
    let tenants = pad_to_power_of_two(by_tenant.keys().copied());
    // In the order of the ids, so that servers which lock several of them do not block each other.
    let integrations = integration::Entity::find()
        .filter(integration::Column::TenantId.is_in(tenants))
        .filter(integration::Column::IsEnabled.eq(true))
        .order_by_asc(integration::Column::Id)
        .all(transaction)
        .await?;
    if integrations.is_empty() {
        return Ok(());
    }
    for (tenant_id, events) in &mut by_tenant {
        let of_tenant = || integrations.iter().filter(|row| row.tenant_id == *tenant_id);
        events.extend(schedule_health::derive(transaction, of_tenant(), events).await?);
    }
    for row in &integrations {
        let Some(events) = by_tenant.get(&row.tenant_id) else { continue };
        if grouped::add(transaction, row, events).await? {
            outbox.state().has_written = true;
        }
    }
    Ok(())
}
