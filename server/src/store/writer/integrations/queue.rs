//! The queue of an integration: its first message is `pending`, all others are `queued`. So messages
//! leave in order, and one that a dead receiver does not take holds no other integration up.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
};

use crate::domain::ids::{IntegrationId, WebhookDeliveryId};
use crate::domain::integrations::records::WebhookAttempt;
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::time::Timestamp;
use crate::store::entities::integrations::{delivery, integration};
use crate::store::writer::rows;

/// Most messages that wait for one integration. More are stored as failed, to be sent again by hand.
const MAX_QUEUED_MESSAGES: u64 = 1_000;
/// Most messages of one integration that failed and are kept; the oldest are deleted.
const MAX_DEAD_LETTERS: u64 = 1_000;

/// Locks the queue until the end of the transaction; false if the integration does not exist.
pub(in crate::store) async fn lock(
    transaction: &DatabaseTransaction,
    id: IntegrationId,
) -> Result<bool, DbErr> {
    let locked = integration::Entity::update_many()
        .col_expr(
            integration::Column::QueueChanges,
            Expr::col(integration::Column::QueueChanges).add(1),
        )
        .filter(integration::Column::Id.eq(id))
        .exec(transaction)
        .await?;
    Ok(locked.rows_affected > 0)
}

/// Adds messages to the locked queue. Above the limit they are stored as failed.
pub(super) async fn insert(
    transaction: &DatabaseTransaction,
    row: &integration::Model,
    mut new: Vec<delivery::Model>,
    now: Timestamp,
) -> Result<(), DbErr> {
    if new.is_empty() {
        return Ok(());
    }
    let waiting = in_state(row.id, WebhookDeliveryState::Queued).count(transaction).await?;
    let free_slots = usize::try_from(MAX_QUEUED_MESSAGES.saturating_sub(waiting)).unwrap_or(0);
    for message in new.iter_mut().skip(free_slots) {
        message.state = WebhookDeliveryState::Failed;
        message.finished_at = Some(now);
        message.attempts.push(WebhookAttempt {
            at: now,
            took_ms: 0,
            status: None,
            error: Some(format!("{MAX_QUEUED_MESSAGES} messages were waiting already")),
            response: None,
        });
    }
    let is_over = new.len() > free_slots;
    let new = new.into_iter().map(delivery::Model::into_active_model).collect();
    rows::insert(transaction, new, None).await?;
    if is_over { forget_oldest(transaction, row.id).await } else { Ok(()) }
}

/// Makes the first message of the locked queue pending, unless another one is under way.
pub(in crate::store) async fn promote(
    transaction: &DatabaseTransaction,
    id: IntegrationId,
    now: Timestamp,
) -> Result<(), DbErr> {
    let Some(row) = integration::Entity::find_by_id(id).all(transaction).await?.pop() else {
        return Ok(());
    };
    if row.failing_since.is_some() {
        expire(transaction, id, now).await?;
    }
    let head = in_state(id, WebhookDeliveryState::Pending).all(transaction).await?.pop();
    let first = in_state(id, WebhookDeliveryState::Queued)
        .order_by_asc(delivery::Column::ReadyAt)
        .order_by_asc(delivery::Column::Id)
        .limit(1)
        .all(transaction)
        .await?
        .pop();
    let Some(first) = first else { return Ok(()) };
    if let Some(head) = head {
        // One that waits for the end of its time lets others pass. One that was tried keeps its place.
        if head.tries > 0 || (head.ready_at, head.id) <= (first.ready_at, first.id) {
            return Ok(());
        }
        set(transaction, head.id, WebhookDeliveryState::Queued, head.ready_at).await?;
    }
    let due_at = row.retry_at.map_or(first.ready_at, |retry_at| Ord::max(retry_at, first.ready_at));
    set(transaction, first.id, WebhookDeliveryState::Pending, due_at).await
}

/// Deletes the oldest of the messages that failed, above the limit.
pub(in crate::store) async fn forget_oldest(
    transaction: &DatabaseTransaction,
    id: IntegrationId,
) -> Result<(), DbErr> {
    let kept: Option<WebhookDeliveryId> = in_state(id, WebhookDeliveryState::Failed)
        .select_only()
        .column(delivery::Column::Id)
        .order_by_desc(delivery::Column::Id)
        .offset(MAX_DEAD_LETTERS - 1)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    let Some(oldest_kept) = kept else { return Ok(()) };
    delivery::Entity::delete_many()
        .filter(delivery::Column::IntegrationId.eq(id))
        .filter(delivery::Column::State.eq(WebhookDeliveryState::Failed))
        .filter(delivery::Column::Id.lt(oldest_kept))
        .exec(transaction)
        .await?;
    Ok(())
}

/// All messages that wait have failed, because a person disabled the integration.
pub(in crate::store) async fn end_all(
    transaction: &DatabaseTransaction,
    id: IntegrationId,
    now: Timestamp,
) -> Result<(), DbErr> {
    delivery::Entity::update_many()
        .col_expr(delivery::Column::State, WebhookDeliveryState::Failed.as_str().into())
        .col_expr(delivery::Column::FinishedAt, now.0.into())
        .filter(delivery::Column::IntegrationId.eq(id))
        .filter(delivery::Column::FinishedAt.is_null())
        .exec(transaction)
        .await?;
    forget_oldest(transaction, id).await
}

/// Messages that waited for a day behind a dead receiver have failed.
async fn expire(
    transaction: &DatabaseTransaction,
    id: IntegrationId,
    now: Timestamp,
) -> Result<(), DbErr> {
    let expired = delivery::Entity::update_many()
        .col_expr(delivery::Column::State, WebhookDeliveryState::Failed.as_str().into())
        .col_expr(delivery::Column::FinishedAt, now.0.into())
        .filter(delivery::Column::IntegrationId.eq(id))
        .filter(delivery::Column::State.eq(WebhookDeliveryState::Queued))
        .filter(delivery::Column::GiveUpAt.lte(now))
        .exec(transaction)
        .await?;
    if expired.rows_affected > 0 { forget_oldest(transaction, id).await } else { Ok(()) }
}

async fn set(
    transaction: &DatabaseTransaction,
    id: WebhookDeliveryId,
    state: WebhookDeliveryState,
    due_at: Timestamp,
) -> Result<(), DbErr> {
    delivery::Entity::update_many()
        .col_expr(delivery::Column::State, state.as_str().into())
        .col_expr(delivery::Column::DueAt, due_at.0.into())
        .filter(delivery::Column::Id.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}

fn in_state(id: IntegrationId, state: WebhookDeliveryState) -> Select<delivery::Entity> {
    delivery::Entity::find()
        .filter(delivery::Column::IntegrationId.eq(id))
        .filter(delivery::Column::State.eq(state))
}
