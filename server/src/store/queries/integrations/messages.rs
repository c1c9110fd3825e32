//! The messages of integrations: reading them, sending them again, and what follows from an attempt.

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
};

use crate::domain::ids::{IntegrationId, WebhookDeliveryId};
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, member, user};
use crate::store::entities::integrations::{delivery, integration};
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;
use crate::store::writer::integrations::queue;

impl TenantScope {
    /// One page of the messages of an integration, newest first, with one row more than the limit if there
    /// is one.
    pub async fn integration_messages(
        &self,
        id: IntegrationId,
        state: Option<WebhookDeliveryState>,
        page: PageRequest,
    ) -> Result<Vec<delivery::Model>, StoreError> {
        let mut query = delivery::Entity::find()
            .filter(delivery::Column::IntegrationId.eq(id))
            .filter(delivery::Column::TenantId.eq(self.tenant_id))
            .order_by_desc(delivery::Column::Id)
            .limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(delivery::Column::Id.lt(before));
        }
        if let Some(state) = state {
            query = query.filter(delivery::Column::State.eq(state));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// Queues a message again, unless it waits; `None` if it does not exist.
    pub async fn resend_message(
        &self,
        (integration_id, id): (IntegrationId, WebhookDeliveryId),
        now: Timestamp,
        give_up_at: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<delivery::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    queue::lock(transaction, integration_id).await?;
                    let found = delivery::Entity::find_by_id(id)
                        .filter(delivery::Column::TenantId.eq(tenant_id))
                        .filter(delivery::Column::IntegrationId.eq(integration_id))
                        .all(transaction)
                        .await?
                        .pop();
                    let Some(row) = found else { return Ok(None) };
                    if row.finished_at.is_none() {
                        return Ok(Some(row));
                    }
                    let row = delivery::Model {
                        state: WebhookDeliveryState::Queued,
                        ready_at: now,
                        due_at: now,
                        give_up_at,
                        finished_at: None,
                        tries: 0,
                        ..row
                    };
                    row.into_active_model().reset_all().update(transaction).await?;
                    queue::promote(transaction, integration_id, now).await?;
                    write_audit(transaction, audit).await?;
                    Ok(delivery::Entity::find_by_id(id).all(transaction).await?.pop())
                })
            })
            .await
    }

    /// The messages that follow in the queue of an integration and are ready, in their order.
    pub async fn ready_messages(
        &self,
        id: IntegrationId,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<delivery::Model>, StoreError> {
        let query = delivery::Entity::find()
            .filter(delivery::Column::IntegrationId.eq(id))
            .filter(delivery::Column::State.eq(WebhookDeliveryState::Queued))
            .filter(delivery::Column::ReadyAt.lte(now))
            .order_by_asc(delivery::Column::ReadyAt)
            .order_by_asc(delivery::Column::Id)
            .limit(limit);
        Ok(query.all(&self.reader).await?)
    }

    /// Those of the addresses that belong to members.
    pub async fn addresses_of_members(
        &self,
        addresses: Vec<String>,
    ) -> Result<Vec<String>, StoreError> {
        let members = member::Entity::find()
            .select_only()
            .column(member::Column::UserId)
            .filter(member::Column::TenantId.eq(self.tenant_id))
            .filter(member::Column::RemovedAt.is_null())
            .into_query();
        let query = user::Entity::find()
            .select_only()
            .column(user::Column::Email)
            .filter(user::Column::Email.is_in(addresses))
            .filter(user::Column::Id.in_subquery(members));
        Ok(query.into_tuple().all(&self.reader).await?)
    }
}

impl SystemScope {
    /// Deletes a message that its integration does not send, and lets the next one be sent.
    pub async fn drop_message(
        &self,
        integration_id: IntegrationId,
        id: WebhookDeliveryId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    queue::lock(transaction, integration_id).await?;
                    delivery::Entity::delete_by_id(id).exec(transaction).await?;
                    Ok(queue::promote(transaction, integration_id, now).await?)
                })
            })
            .await
    }
}

/// What follows from an attempt for the locked queue: whether the receiver fails, and which message is
/// next.
pub(super) async fn settle(
    transaction: &DatabaseTransaction,
    id: IntegrationId,
    row: &delivery::Model,
    (now, error): (Timestamp, Option<String>),
    merged: Vec<WebhookDeliveryId>,
) -> Result<(), DbErr> {
    let Some(known) = integration::Entity::find_by_id(id).all(transaction).await?.pop() else {
        return Ok(());
    };
    let (failing_since, retry_at) = match row.state {
        WebhookDeliveryState::Delivered => (None, None),
        WebhookDeliveryState::Pending => (known.failing_since.or(Some(now)), Some(row.due_at)),
        // The receiver refused this one message.
        _ => (known.failing_since, known.retry_at),
    };
    integration::Entity::update_many()
        .col_expr(integration::Column::FailingSince, failing_since.map(|at| at.0).into())
        .col_expr(integration::Column::RetryAt, retry_at.map(|at| at.0).into())
        .col_expr(integration::Column::LastError, error.into())
        .filter(integration::Column::Id.eq(id))
        .exec(transaction)
        .await?;
    if row.state == WebhookDeliveryState::Delivered && !merged.is_empty() {
        delivery::Entity::update_many()
            .col_expr(delivery::Column::State, WebhookDeliveryState::Delivered.as_str().into())
            .col_expr(delivery::Column::FinishedAt, now.0.into())
            .filter(delivery::Column::Id.is_in(merged))
            .filter(delivery::Column::State.eq(WebhookDeliveryState::Queued))
            .exec(transaction)
            .await?;
    }
    if row.state == WebhookDeliveryState::Failed {
        queue::forget_oldest(transaction, id).await?;
    }
    queue::promote(transaction, id, now).await
}
