//! Webhook deliveries: reading them, and finding those that are due.

use std::collections::HashMap;

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::records::{CommandRecord, ReportRecord};
use crate::domain::ids::{AgentId, JobId, WebhookDeliveryId};
use crate::domain::integrations::records::WebhookAttempt;
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::FAILURES;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::command;
use crate::store::entities::fleet::agent;
use crate::store::entities::integrations::{delivery, integration};
use crate::store::queries::access::tenants::tenant_deletion::closed_tenants;
use crate::store::queries::commands::history::with_reports;
use crate::store::queries::integrations::messages::settle;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;
use crate::store::writer::integrations::queue;
use crate::store::writer::rows::pad_to_power_of_two;

/// A filter of deliveries.
#[derive(Debug, Clone, Copy, Default)]
pub struct WebhookDeliveryFilter {
    pub job_id: Option<JobId>,
    pub state: Option<WebhookDeliveryState>,
}

/// Deliveries to skip in the search for due ones.
#[derive(Debug, Clone, Default)]
pub struct WebhookDeliveriesToSkip {
    /// Deliveries in progress.
    pub ids: Vec<WebhookDeliveryId>,
    /// Hosts with as many deliveries in progress as they may have.
    pub hosts: Vec<String>,
}

/// A delivery that waits for its due time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingWebhookDelivery {
    pub id: WebhookDeliveryId,
    pub host: String,
    pub due_at: Timestamp,
}

/// An execution that did not succeed, with its agent's name and report.
#[derive(Debug, Clone)]
pub struct FailedExecution {
    pub command: CommandRecord,
    pub agent_name: Option<String>,
    pub report: Option<ReportRecord>,
}

impl TenantScope {
    /// One page of deliveries, newest first, with one row more than the limit if there is one.
    pub async fn webhook_deliveries(
        &self,
        filter: WebhookDeliveryFilter,
        page: PageRequest,
    ) -> Result<Vec<delivery::Model>, StoreError> {
        let mut query = delivery::Entity::find()
            .filter(delivery::Column::TenantId.eq(self.tenant_id))
            .filter(delivery::Column::IntegrationId.is_null())
            .order_by_desc(delivery::Column::Id)
            .limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(delivery::Column::Id.lt(before));
        }
        if let Some(job_id) = filter.job_id {
            query = query.filter(delivery::Column::JobId.eq(job_id));
        }
        if let Some(state) = filter.state {
            query = query.filter(delivery::Column::State.eq(state));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One delivery.
    pub async fn webhook_delivery(
        &self,
        id: WebhookDeliveryId,
    ) -> Result<Option<delivery::Model>, StoreError> {
        let query = delivery::Entity::find_by_id(id)
            .filter(delivery::Column::TenantId.eq(self.tenant_id))
            .filter(delivery::Column::IntegrationId.is_null());
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Makes a delivery due, in any state; `None` if it does not exist.
    pub async fn resend_webhook(
        &self,
        id: WebhookDeliveryId,
        now: Timestamp,
        give_up_at: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<delivery::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let found = delivery::Entity::find_by_id(id)
                        .filter(delivery::Column::TenantId.eq(tenant_id))
                        .filter(delivery::Column::IntegrationId.is_null())
                        .one(transaction)
                        .await?;
                    let Some(row) = found else { return Ok(None) };
                    let row = delivery::Model {
                        state: WebhookDeliveryState::Pending,
                        due_at: now,
                        give_up_at,
                        finished_at: None,
                        tries: 0,
                        ..row
                    };
                    let row = row.into_active_model().reset_all().update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// The first `limit` executions of a job that did not succeed.
    pub async fn failed_executions(
        &self,
        job_id: JobId,
        limit: u64,
    ) -> Result<Vec<FailedExecution>, StoreError> {
        let rows = command::Entity::find()
            .filter(command::Column::TenantId.eq(self.tenant_id))
            .filter(command::Column::JobId.eq(job_id))
            .filter(command::Column::State.is_in(FAILURES))
            .order_by_asc(command::Column::Id)
            .limit(limit)
            .all(&self.reader)
            .await?;
        let names: Vec<(AgentId, String)> = agent::Entity::find()
            .select_only()
            .column(agent::Column::Id)
            .column(agent::Column::Name)
            .filter(agent::Column::Id.is_in(rows.iter().map(|row| row.agent_id)))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let mut names: HashMap<_, _> = names.into_iter().collect();
        let found = with_reports(&self.reader, rows).await?;
        Ok(found
            .into_iter()
            .map(|found| FailedExecution {
                // Each execution of a job has another agent.
                agent_name: names.remove(&found.command.agent_id),
                command: found.command,
                report: found.report,
            })
            .collect())
    }
}

impl SystemScope {
    /// The deliveries with the earliest due times, which may be in the future.
    pub async fn waiting_webhooks(
        &self,
        busy: &WebhookDeliveriesToSkip,
        limit: u64,
    ) -> Result<Vec<PendingWebhookDelivery>, StoreError> {
        let mut query = delivery::Entity::find()
            .select_only()
            .column(delivery::Column::Id)
            .column(delivery::Column::Host)
            .column(delivery::Column::DueAt)
            .filter(delivery::Column::State.eq(WebhookDeliveryState::Pending))
            .filter(delivery::Column::TenantId.not_in_subquery(closed_tenants()))
            .order_by_asc(delivery::Column::DueAt)
            .limit(limit);
        if !busy.hosts.is_empty() {
            let hosts = pad_to_power_of_two(busy.hosts.iter().map(String::as_str));
            query = query.filter(delivery::Column::Host.is_not_in(hosts));
        }
        if !busy.ids.is_empty() {
            let ids = pad_to_power_of_two(busy.ids.iter().copied());
            query = query.filter(delivery::Column::Id.is_not_in(ids));
        }
        let rows: Vec<(WebhookDeliveryId, String, Timestamp)> =
            query.into_tuple().all(&self.reader).await?;
        Ok(rows
            .into_iter()
            .map(|(id, host, due_at)| PendingWebhookDelivery { id, host, due_at })
            .collect())
    }

    /// Starts an attempt of a due delivery: counts it, and lets `plan` set when the next attempt is due if
    /// no result of this one is recorded. `None` if the delivery is not pending or not due any more,
    /// because another server started an attempt.
    pub async fn claim_webhook(
        &self,
        id: WebhookDeliveryId,
        now: Timestamp,
        plan: impl Fn(&mut delivery::Model) + Clone + Send + Sync + 'static,
    ) -> Result<Option<(delivery::Model, Option<integration::Model>)>, StoreError> {
        self.writer
            .change(move |transaction| {
                let plan = plan.clone();
                Box::pin(async move {
                    let found = delivery::Entity::find_by_id(id)
                        .filter(delivery::Column::State.eq(WebhookDeliveryState::Pending))
                        .filter(delivery::Column::DueAt.lte(now))
                        .lock_exclusive()
                        .all(transaction)
                        .await?
                        .pop();
                    let Some(mut row) = found else { return Ok(None) };
                    row.tries = row.tries.saturating_add(1);
                    plan(&mut row);
                    let row = row.into_active_model().reset_all().update(transaction).await?;
                    let integration = match row.integration_id {
                        Some(id) => {
                            integration::Entity::find_by_id(id).all(transaction).await?.pop()
                        }
                        None => None,
                    };
                    Ok(Some((row, integration)))
                })
            })
            .await
    }

    /// Records an attempt, and applies `decide` to the delivery. `merged`: queued messages that it carried
    /// too. The queue of an integration moves on.
    pub async fn record_webhook_attempt(
        &self,
        id: WebhookDeliveryId,
        attempt: WebhookAttempt,
        merged: Vec<WebhookDeliveryId>,
        decide: impl Fn(&mut delivery::Model) + Clone + Send + Sync + 'static,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (attempt, decide, merged) = (attempt.clone(), decide.clone(), merged.clone());
                Box::pin(async move {
                    let found = delivery::Entity::find_by_id(id).all(transaction).await?.pop();
                    // The delivery was deleted: it was too old, or its integration was deleted.
                    let Some(mut row) = found else { return Ok(()) };
                    if let Some(integration_id) = row.integration_id {
                        queue::lock(transaction, integration_id).await?;
                    }
                    let (now, error) = (attempt.at.plus_ms(attempt.took_ms), attempt.error.clone());
                    row.attempts.push(attempt);
                    row.attempt_count = row.attempt_count.saturating_add(1);
                    // A person may have sent it again since it was claimed. Then this attempt
                    // counts for the new round.
                    row.tries = row.tries.max(1);
                    decide(&mut row);
                    let row = row.into_active_model().reset_all().update(transaction).await?;
                    if let Some(integration_id) = row.integration_id {
                        settle(transaction, integration_id, &row, (now, error), merged).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}
