//! Finishes jobs, once each.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
};
use serde_json::json;

use crate::domain::commands::job_state::JobState;
use crate::domain::ids::{JobId, TenantId, WebhookDeliveryId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::integrations::webhook::retry::TRIED_FOR_MS;
use crate::domain::integrations::webhook::{JOB_FINISHED, WebhookDeliveryState};
use crate::domain::outbound::OutboundUrl;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::job;
use crate::store::entities::integrations::delivery;
use crate::store::entities::integrations::delivery::WebhookAttempts;
use crate::store::writer::connection::WriteTx;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST};

/// Finishes a job after the end of all its executions.
pub struct FinishJob {
    pub tenant_id: TenantId,
    pub job_id: JobId,
    pub state: JobState,
    /// When its last execution ended.
    pub finished_at: Timestamp,
}

impl BatchOperation for FinishJob {
    /// False if the job was already finished.
    type Done = bool;

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<bool, StoreError>>, DbErr> {
        let mut unfinished = HashMap::with_capacity(operations.len());
        for operations in operations.chunks(MAX_LIST) {
            let rows: Vec<(JobId, Option<String>)> = job::Entity::find()
                .select_only()
                .column(job::Column::Id)
                .column(job::Column::WebhookUrl)
                .filter(
                    job::Column::Id
                        .is_in(pad_to_power_of_two(operations.iter().map(|op| op.job_id))),
                )
                .filter(job::Column::FinishedAt.is_null())
                .into_tuple()
                .all(tx.transaction)
                .await?;
            unfinished.extend(rows);
        }
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            let first = unfinished.remove(&operation.job_id);
            results.push(Ok(first.is_some()));
            if let Some(webhook_url) = first {
                operation.finish(tx, webhook_url).await?;
            }
        }
        Ok(results)
    }
}

impl FinishJob {
    /// Runs once for each job, so everything that follows from its end is written in this
    /// transaction.
    async fn finish(&self, tx: &WriteTx<'_>, webhook_url: Option<String>) -> Result<(), DbErr> {
        job::Entity::update_many()
            .col_expr(job::Column::State, self.state.as_str().into())
            .col_expr(job::Column::FinishedAt, self.finished_at.0.into())
            .filter(job::Column::Id.eq(self.job_id))
            .filter(job::Column::TenantId.eq(self.tenant_id))
            .exec(tx.transaction)
            .await?;
        tx.outbox.append([self.event()]);
        if let Some(url) = webhook_url {
            let delivery = self.delivery(url).into_active_model();
            delivery::Entity::insert(delivery).exec_without_returning(tx.transaction).await?;
        }
        Ok(())
    }

    /// The webhook message, due at once.
    fn delivery(&self, url: String) -> delivery::Model {
        delivery::Model {
            id: WebhookDeliveryId::new(),
            tenant_id: self.tenant_id,
            integration_id: None,
            job_id: Some(self.job_id),
            event: JOB_FINISHED.to_owned(),
            host: OutboundUrl::host_of(&url),
            url,
            state: WebhookDeliveryState::Pending,
            created_at: self.finished_at,
            ready_at: self.finished_at,
            due_at: self.finished_at,
            give_up_at: self.finished_at.plus_ms(TRIED_FOR_MS),
            finished_at: None,
            attempt_count: 0,
            tries: 0,
            attempts: WebhookAttempts::default(),
            subject_id: None,
            data: None,
            group_key: None,
            repeat_count: 0,
        }
    }

    /// What integrations hear of it; details are read when it is sent.
    fn event(&self) -> IntegrationEvent {
        IntegrationEvent {
            tenant_id: self.tenant_id,
            event: match self.state {
                JobState::Succeeded => EventType::JobSucceeded,
                JobState::Cancelled | JobState::Aborted => EventType::JobCancelled,
                _ => EventType::JobFailed,
            },
            at: self.finished_at,
            subject_id: self.job_id.0,
            agent_id: None,
            job_id: Some(self.job_id),
            data: json!({"state": self.state}),
        }
    }
}
