//! Stores the facts that hosts report. Only what differs from the last report is written.

use std::collections::HashMap;

use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};

use crate::domain::fleet::reported_facts::ReportedFacts;
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::column::StringList;
use crate::store::entities::fleet::{agent_fact, agent_fact_report};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::{BatchOperation, MAX_LIST, rows};

/// Replaces the last report of an agent.
pub struct RecordFacts {
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub epoch: i64,
    pub reported: ReportedFacts,
    pub now: Timestamp,
}

impl BatchOperation for RecordFacts {
    /// True if the report differs from the last one.
    type Done = bool;

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<bool, StoreError>>, DbErr> {
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            results.push(match epochs.check(operation.agent_id, operation.epoch) {
                Ok(()) => Ok(operation.write(tx).await?),
                Err(error) => Err(error),
            });
        }
        Ok(results)
    }
}

impl RecordFacts {
    async fn write(&self, tx: &WriteTx<'_>) -> Result<bool, DbErr> {
        let digest = self.reported.digest().to_vec();
        let known =
            agent_fact_report::Entity::find_by_id(self.agent_id).all(tx.transaction).await?;
        if known.first().is_some_and(|row| row.digest == digest) {
            return Ok(false);
        }
        let own = agent_fact::Column::AgentId.eq(self.agent_id);
        let stored = agent_fact::Entity::find().filter(own.clone()).all(tx.transaction).await?;
        let stored: HashMap<String, StringList> =
            stored.into_iter().map(|row| (row.name, row.fact_values)).collect();
        let gone: Vec<&str> = stored
            .keys()
            .map(String::as_str)
            .filter(|name| !self.reported.facts.contains_key(*name))
            .collect();
        for names in gone.chunks(MAX_LIST) {
            agent_fact::Entity::delete_many()
                .filter(own.clone())
                .filter(agent_fact::Column::Name.is_in(names.iter().copied()))
                .exec(tx.transaction)
                .await?;
        }
        let changed = self
            .reported
            .facts
            .iter()
            .filter(|(name, values)| stored.get(*name).is_none_or(|known| known.0 != **values));
        let changed = changed.map(|(name, values)| {
            agent_fact::Model {
                agent_id: self.agent_id,
                name: name.clone(),
                tenant_id: self.tenant_id,
                fact_values: StringList(values.clone()),
            }
            .into_active_model()
        });
        let replace = OnConflict::columns([agent_fact::Column::AgentId, agent_fact::Column::Name])
            .update_column(agent_fact::Column::FactValues)
            .to_owned();
        rows::insert(tx.transaction, changed.collect(), Some(replace)).await?;
        let report = agent_fact_report::Model {
            agent_id: self.agent_id,
            tenant_id: self.tenant_id,
            digest,
            // Lists of texts always have a JSON form.
            errors: serde_json::to_string(&self.reported.errors).unwrap_or_default(),
            changed_at: self.now,
        };
        let replace = OnConflict::column(agent_fact_report::Column::AgentId)
            .update_columns([
                agent_fact_report::Column::Digest,
                agent_fact_report::Column::Errors,
                agent_fact_report::Column::ChangedAt,
            ])
            .to_owned();
        rows::insert(tx.transaction, vec![report.into_active_model()], Some(replace)).await?;
        Ok(true)
    }
}
