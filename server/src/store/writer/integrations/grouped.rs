//! Adds the events of a transaction to the queue of one integration.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::queue;
use crate::domain::ids::WebhookDeliveryId;
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::grouping::{FAILURE_HOLD_MS, GroupStep, KnownMessage, group};
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::integrations::webhook::retry::TRIED_FOR_MS;
use crate::domain::time::Timestamp;
use crate::store::entities::integrations::delivery::WebhookAttempts;
use crate::store::entities::integrations::{delivery, integration};
use crate::store::writer::MAX_LIST;
use crate::store::writer::rows::pad_to_power_of_two;

/// Messages about a resource, by the id of the resource.
type KnownMessages = HashMap<Uuid, Vec<KnownMessage>>;

/// Adds messages. True if the queue changed.
pub(super) async fn add(
    transaction: &DatabaseTransaction,
    row: &integration::Model,
    events: &[IntegrationEvent],
) -> Result<bool, DbErr> {
    let is_taken = |event: EventType| row.event_types.0.contains(&event);
    // An event that is not sent may still end one of its group that waits.
    let concerns = |event: EventType| {
        is_taken(event)
            || event.group().is_some_and(|group| {
                row.event_types.0.iter().any(|taken| taken.group() == Some(group))
            })
    };
    let events: Vec<_> = events.iter().filter(|event| concerns(event.event)).collect();
    let Some(now) = events.iter().map(|event| event.at).max() else { return Ok(false) };
    queue::lock(transaction, row.id).await?;
    let mut known = read_known(transaction, row, &events).await?;
    let mut new: Vec<delivery::Model> = Vec::new();
    for event in events {
        let of_subject = known.entry(event.subject_id).or_default();
        let offline_after_ms = row.offline_after_ms.unsigned_abs();
        for step in
            group(event.event, event.at, of_subject, is_taken(event.event), offline_after_ms)
        {
            match step {
                GroupStep::Add { ready_at } => {
                    let message = message(row, event, ready_at);
                    of_subject.push(known_message(&message));
                    new.push(message);
                }
                GroupStep::Renew { id } => {
                    if let Some(found) = of_subject.iter_mut().find(|known| known.id == id) {
                        found.event = event.event;
                        found.repeat_count += 1;
                    }
                    match new.iter_mut().find(|message| message.id.0 == id) {
                        Some(message) => {
                            message.event = event.event.as_str().to_owned();
                            message.data = Some(event.data.to_string());
                            message.repeat_count += 1;
                        }
                        None => renew(transaction, id, event).await?,
                    }
                }
                GroupStep::Drop { id } => {
                    of_subject.retain(|known| known.id != id);
                    new.retain(|message| message.id.0 != id);
                    delivery::Entity::delete_by_id(WebhookDeliveryId(id)).exec(transaction).await?;
                }
            }
        }
    }
    queue::insert(transaction, row, new, now).await?;
    queue::promote(transaction, row.id, now).await?;
    Ok(true)
}

/// The messages of the last hour about the resources of grouped events; for a recovery also the last one
/// before.
async fn read_known(
    transaction: &DatabaseTransaction,
    row: &integration::Model,
    events: &[&IntegrationEvent],
) -> Result<KnownMessages, DbErr> {
    let mut known = KnownMessages::new();
    let grouped: Vec<_> = events.iter().filter(|event| event.event.group().is_some()).collect();
    let Some(first) = grouped.iter().map(|event| event.at).min() else { return Ok(known) };
    let since = first.minus_ms(FAILURE_HOLD_MS);
    let of_integration = || {
        delivery::Entity::find()
            .filter(delivery::Column::IntegrationId.eq(row.id))
            .filter(delivery::Column::GroupKey.is_not_null())
    };
    for subjects in grouped.chunks(MAX_LIST) {
        let subjects = pad_to_power_of_two(subjects.iter().map(|event| event.subject_id));
        let found = of_integration()
            .filter(delivery::Column::SubjectId.is_in(subjects))
            .filter(delivery::Column::CreatedAt.gt(since))
            .order_by_asc(delivery::Column::Id)
            .all(transaction)
            .await?;
        for message in found {
            let subject_id = message.subject_id.unwrap_or_default();
            known.entry(subject_id).or_default().push(known_message(&message));
        }
    }
    for event in grouped {
        if event.event != EventType::ScheduleRecovered || known.contains_key(&event.subject_id) {
            continue;
        }
        let last = of_integration()
            .filter(delivery::Column::SubjectId.eq(event.subject_id))
            .order_by_desc(delivery::Column::Id)
            .limit(1)
            .all(transaction)
            .await?;
        known.insert(event.subject_id, last.iter().map(known_message).collect());
    }
    Ok(known)
}

fn known_message(message: &delivery::Model) -> KnownMessage {
    use WebhookDeliveryState::{Pending, Queued};
    KnownMessage {
        id: message.id.0,
        event: message.event.parse().unwrap_or(EventType::IntegrationTest),
        created_at: message.created_at,
        ready_at: message.ready_at,
        is_waiting: message.tries == 0 && matches!(message.state, Queued | Pending),
        repeat_count: message.repeat_count,
    }
}

async fn renew(
    transaction: &DatabaseTransaction,
    id: Uuid,
    event: &IntegrationEvent,
) -> Result<(), DbErr> {
    delivery::Entity::update_many()
        .col_expr(delivery::Column::Event, event.event.as_str().into())
        .col_expr(delivery::Column::Data, event.data.to_string().into())
        .col_expr(delivery::Column::RepeatCount, Expr::col(delivery::Column::RepeatCount).add(1))
        .filter(delivery::Column::Id.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}

fn message(
    row: &integration::Model,
    event: &IntegrationEvent,
    ready_at: Timestamp,
) -> delivery::Model {
    delivery::Model {
        id: WebhookDeliveryId::new(),
        tenant_id: row.tenant_id,
        integration_id: Some(row.id),
        job_id: event.job_id,
        event: event.event.as_str().to_owned(),
        url: String::new(),
        host: row.host.clone(),
        state: WebhookDeliveryState::Queued,
        created_at: event.at,
        ready_at,
        due_at: ready_at,
        give_up_at: ready_at.plus_ms(TRIED_FOR_MS),
        finished_at: None,
        attempt_count: 0,
        tries: 0,
        attempts: WebhookAttempts::default(),
        subject_id: Some(event.subject_id),
        data: Some(event.data.to_string()),
        group_key: event.event.group().map(|group| group.as_str().to_owned()),
        repeat_count: 0,
    }
}
