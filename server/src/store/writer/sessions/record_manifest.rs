//! Stores the manifests and policies that hosts report.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};

use crate::domain::ids::AgentId;
use crate::store::StoreError;
use crate::store::entities::fleet::{agent, agent_manifest};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::{BatchOperation, rows};

/// Replaces the last report of an agent.
pub struct RecordManifest {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub row: agent_manifest::Model,
    /// Policy of the host, if it changed within this session.
    pub new_policy: Option<String>,
}

impl BatchOperation for RecordManifest {
    type Done = ();

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        // One statement can't touch a row twice: of several reports of one agent the last counts.
        let mut rows: Vec<&Self> = Vec::with_capacity(operations.len());
        for operation in operations.iter().filter(|op| epochs.may_write(op.agent_id, op.epoch)) {
            rows.retain(|row| row.agent_id != operation.agent_id);
            rows.push(operation);
        }
        for row in rows.iter().filter(|row| row.new_policy.is_some()) {
            agent::Entity::update_many()
                .col_expr(agent::Column::Policy, row.new_policy.clone().into())
                .filter(agent::Column::Id.eq(row.agent_id))
                .exec(transaction)
                .await?;
        }
        let rows = rows.into_iter().map(|op| op.row.clone().into_active_model()).collect();
        let replace = OnConflict::column(agent_manifest::Column::AgentId)
            .update_columns([
                agent_manifest::Column::Manifest,
                agent_manifest::Column::Digest,
                agent_manifest::Column::Error,
                agent_manifest::Column::ForbiddenCommands,
                agent_manifest::Column::ReportedAt,
            ])
            .to_owned();
        rows::insert(transaction, rows, Some(replace)).await?;
        Ok(operations.iter().map(|op| epochs.check(op.agent_id, op.epoch)).collect())
    }
}
