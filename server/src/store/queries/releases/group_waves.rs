//! The progress of groups: their waves, and the updates of their agents.

use std::collections::BTreeSet;

use sea_orm::sea_query::{OnConflict, Query};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{AgentId, CommandId, GroupId};
use crate::domain::releases::group::{GroupState, UpdateState};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::command;
use crate::store::entities::fleet::agent;
use crate::store::entities::releases::{agent_update, group};
use crate::store::queries::commands::history::with_reports;
use crate::store::queries::{CommandWithReport, SystemScope, TenantScope};
use crate::store::requester::write_audit;

/// Rows in one statement.
const ROWS_AT_ONCE: usize = 500;

impl TenantScope {
    /// The update of each agent in a group.
    pub async fn group_updates(&self, id: GroupId) -> Result<Vec<agent_update::Model>, StoreError> {
        let query = agent_update::Entity::find()
            .filter(agent_update::Column::TenantId.eq(self.tenant_id))
            .filter(agent_update::Column::GroupId.eq(id))
            .order_by_asc(agent_update::Column::AgentId);
        Ok(query.all(&self.reader).await?)
    }

    /// An agent's update in its group.
    pub async fn agent_update(
        &self,
        agent_id: AgentId,
    ) -> Result<Option<agent_update::Model>, StoreError> {
        let query = agent_update::Entity::find_by_id(agent_id)
            .filter(agent_update::Column::TenantId.eq(self.tenant_id));
        Ok(query.one(&self.reader).await?)
    }

    /// Commands by id, with their reports.
    pub async fn commands_by_id(
        &self,
        ids: &[CommandId],
    ) -> Result<Vec<CommandWithReport>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(ROWS_AT_ONCE) {
            let query = command::Entity::find()
                .filter(command::Column::Id.is_in(ids.iter().copied()))
                .filter(command::Column::TenantId.eq(self.tenant_id));
            let rows = query.all(&self.reader).await?;
            found.extend(with_reports(&self.reader, rows).await?);
        }
        Ok(found)
    }

    /// Stores updates of a group's agents, and which wave was started. False if the group is no
    /// longer equal to `decided_on`.
    pub async fn advance_group(
        &self,
        decided_on: group::Model,
        wave: i32,
        updates: Vec<agent_update::Model>,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (decided_on, updates) = (decided_on.clone(), updates.clone());
                Box::pin(async move {
                    if !is_still(transaction, &decided_on).await? {
                        return Ok(false);
                    }
                    if wave != decided_on.wave {
                        let mut row = decided_on.into_active_model();
                        row.wave = Set(wave);
                        row.update(transaction).await?;
                    }
                    for rows in updates.chunks(ROWS_AT_ONCE) {
                        let rows = of_known_agents(transaction, rows).await?;
                        if rows.is_empty() {
                            continue;
                        }
                        let rows = rows.into_iter().map(agent_update::Model::into_active_model);
                        agent_update::Entity::insert_many(rows)
                            .on_conflict(all_columns())
                            .exec_without_returning(transaction)
                            .await?;
                    }
                    Ok(true)
                })
            })
            .await
    }

    /// Marks the last wave as healthy. False if the group is no longer equal to `decided_on`.
    pub async fn end_group_wave(&self, decided_on: group::Model) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let decided_on = decided_on.clone();
                Box::pin(async move {
                    if !is_still(transaction, &decided_on).await? {
                        return Ok(false);
                    }
                    let wave = decided_on.wave;
                    let mut row = decided_on.into_active_model();
                    row.healthy_wave = Set(wave);
                    row.update(transaction).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Halts a group. False if it is no longer equal to `decided_on`.
    pub async fn halt_group(
        &self,
        decided_on: group::Model,
        reason: String,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (decided_on, reason) = (decided_on.clone(), reason.clone());
                let audit = audit.clone();
                Box::pin(async move {
                    if !is_still(transaction, &decided_on).await? {
                        return Ok(false);
                    }
                    let row = group::Model {
                        state: GroupState::Halted,
                        halt_reason: Some(reason),
                        changed_at: now,
                        ..decided_on
                    };
                    row.into_active_model().reset_all().update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

impl SystemScope {
    /// Active groups with a desired version, and stopped groups with updates whose results are not
    /// known.
    pub async fn groups_under_way(&self) -> Result<Vec<group::Model>, StoreError> {
        let open_updates = Query::select()
            .column(agent_update::Column::GroupId)
            .from(agent_update::Entity)
            .and_where(
                agent_update::Column::State
                    .is_in([UpdateState::Updating, UpdateState::Unreachable]),
            )
            .to_owned();
        let is_active = Condition::all()
            .add(group::Column::State.eq(GroupState::Active))
            .add(group::Column::DesiredVersion.is_not_null());
        let has_open_updates = group::Column::Id.in_subquery(open_updates);
        let query = group::Entity::find()
            .filter(Condition::any().add(is_active).add(has_open_updates))
            .order_by_asc(group::Column::Id);
        Ok(query.all(&self.reader).await?)
    }
}

/// The given rows without those of deleted agents.
async fn of_known_agents(
    transaction: &DatabaseTransaction,
    rows: &[agent_update::Model],
) -> Result<Vec<agent_update::Model>, StoreError> {
    let known: Vec<AgentId> = agent::Entity::find()
        .select_only()
        .column(agent::Column::Id)
        .filter(agent::Column::Id.is_in(rows.iter().map(|row| row.agent_id)))
        .filter(agent::Column::DeletedAt.is_null())
        .into_tuple()
        .all(transaction)
        .await?;
    let known: BTreeSet<AgentId> = known.into_iter().collect();
    Ok(rows.iter().filter(|row| known.contains(&row.agent_id)).cloned().collect())
}

async fn is_still(
    transaction: &DatabaseTransaction,
    decided_on: &group::Model,
) -> Result<bool, StoreError> {
    let found = group::Entity::find_by_id(decided_on.id).one(transaction).await?;
    Ok(found.as_ref() == Some(decided_on))
}

fn all_columns() -> OnConflict {
    use agent_update::Column;
    OnConflict::column(Column::AgentId)
        .update_columns([
            Column::GroupId,
            Column::Generation,
            Column::Wave,
            Column::State,
            Column::CommandId,
            Column::Tries,
            Column::DueAt,
            Column::Code,
            Column::Message,
            Column::ChangedAt,
            Column::Cohort,
            Column::IsCanary,
            Column::ProbeCommandId,
        ])
        .to_owned()
}
