//! Stores what hosts report about their assignments.

use std::collections::HashMap;

use muster_protocol::package::AssignmentReport;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};

use crate::domain::ids::{AgentId, AssignmentId, TenantId};
use crate::domain::library::assignment_records::AssignedKind;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::library::{assignment, assignment_state};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, rows};

/// Replaces all reports of an agent. Texts must be bounded.
pub struct RecordAssignmentStates {
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub epoch: i64,
    /// At most one for each assignment.
    pub reports: Vec<AssignmentReport>,
    pub now: Timestamp,
}

impl BatchOperation for RecordAssignmentStates {
    type Done = ();

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            let checked = epochs.check(operation.agent_id, operation.epoch);
            if checked.is_ok() {
                operation.write(tx).await?;
            }
            results.push(checked);
        }
        Ok(results)
    }
}

impl RecordAssignmentStates {
    async fn write(&self, tx: &WriteTx<'_>) -> Result<(), DbErr> {
        assignment_state::Entity::delete_many()
            .filter(assignment_state::Column::AgentId.eq(self.agent_id))
            .exec(tx.transaction)
            .await?;
        if self.reports.is_empty() {
            return Ok(());
        }
        let ids = self.reports.iter().map(|report| AssignmentId(report.assignment_id));
        // What an agent reports about assignments of others is not stored.
        let known = assignment::Entity::find()
            .filter(assignment::Column::TenantId.eq(self.tenant_id))
            .filter(assignment::Column::Id.is_in(pad_to_power_of_two(ids)))
            .all(tx.transaction)
            .await?;
        let known: HashMap<AssignmentId, AssignedKind> =
            known.into_iter().map(|row| (row.id, row.kind)).collect();
        let reports = self
            .reports
            .iter()
            .filter_map(|report| Some((report, known.get(&AssignmentId(report.assignment_id))?)));
        let states = reports.map(|(report, kind)| {
            // A task has no state of a service.
            let service = report.service.as_ref().filter(|_| *kind == AssignedKind::Service);
            assignment_state::Model {
                agent_id: self.agent_id,
                assignment_id: AssignmentId(report.assignment_id),
                tenant_id: self.tenant_id,
                version: report.version.clone(),
                state: report.state.as_str().to_owned(),
                error_code: report.error_code.clone(),
                error: report.error.clone(),
                skipped_count: i64::try_from(report.skipped_count).unwrap_or(i64::MAX),
                service_state: service.map(|service| service.state.as_str().to_owned()),
                service: service.and_then(|service| serde_json::to_string(service).ok()),
                reported_at: self.now,
            }
            .into_active_model()
        });
        rows::insert(tx.transaction, states.collect(), None).await
    }
}
