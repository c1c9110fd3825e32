//! Groups of agents that are to be of one version, and where each agent is.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::agent_keys::write_audit;
use super::history::with_reports;
use super::{CommandWithReport, SystemScope, TenantScope};
use crate::domain::group::{GroupState, UpdateState};
use crate::domain::ids::{AgentId, CommandId, GroupId, TenantId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::{agent_update, audit_entry, command, group};

/// Rows of one statement.
const ROWS_AT_ONCE: usize = 500;

/// What is to be different about a group.
#[derive(Debug, Clone)]
pub struct GroupChange {
    /// The group as it is to be.
    pub row: group::Model,
    /// As it was when this was thought of.
    pub was_changed_at: Timestamp,
    /// Where its agents are counts no more.
    pub forgets_updates: bool,
    /// Those that failed or are away are asked again.
    pub retries_failed: bool,
}

impl TenantScope {
    /// Stores a new group.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another has the name, or there are `most`.
    pub async fn create_group(
        &self,
        row: group::Model,
        most: usize,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let known = of_tenant(row.tenant_id).all(transaction).await?;
                    if known.len() >= most || known.iter().any(|other| other.name == row.name) {
                        return Err(StoreError::Refused("the group's name is taken"));
                    }
                    group::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// One page of groups, oldest first, with one row more than the limit if there is one.
    pub async fn groups(&self, page: PageRequest) -> Result<Vec<group::Model>, StoreError> {
        let mut query = of_tenant(self.tenant_id).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(group::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// Every group, oldest first: the order in which they have their agents.
    pub async fn all_groups(&self) -> Result<Vec<group::Model>, StoreError> {
        Ok(of_tenant(self.tenant_id).all(&self.reader).await?)
    }

    /// Where the agents of a group are.
    pub async fn group_updates(&self, id: GroupId) -> Result<Vec<agent_update::Model>, StoreError> {
        let query = agent_update::Entity::find()
            .filter(agent_update::Column::TenantId.eq(self.tenant_id))
            .filter(agent_update::Column::GroupId.eq(id))
            .order_by_asc(agent_update::Column::AgentId);
        Ok(query.all(&self.reader).await?)
    }

    /// Where an agent is with the wish of its group.
    pub async fn agent_update(
        &self,
        agent_id: AgentId,
    ) -> Result<Option<agent_update::Model>, StoreError> {
        let query = agent_update::Entity::find_by_id(agent_id)
            .filter(agent_update::Column::TenantId.eq(self.tenant_id));
        Ok(query.one(&self.reader).await?)
    }

    /// Commands by id, with what was reported of them.
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

    /// Changes a group; `None` if there is none, or it has changed since this was thought of.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another has the name.
    pub async fn change_group(
        &self,
        change: GroupChange,
        audit: audit_entry::Model,
    ) -> Result<Option<group::Model>, StoreError> {
        self.writer
            .change(move |transaction| {
                let (change, audit) = (change.clone(), audit.clone());
                Box::pin(async move {
                    let known = of_tenant(change.row.tenant_id).all(transaction).await?;
                    let is_taken = known
                        .iter()
                        .any(|row| row.id != change.row.id && row.name == change.row.name);
                    if is_taken {
                        return Err(StoreError::Refused("the group's name is taken"));
                    }
                    let found = known.into_iter().find(|row| row.id == change.row.id);
                    if found.is_none_or(|row| row.changed_at != change.was_changed_at) {
                        return Ok(None);
                    }
                    let id = change.row.id;
                    let mut gone = agent_update::Entity::delete_many()
                        .filter(agent_update::Column::GroupId.eq(id));
                    if !change.forgets_updates {
                        let asked_in_vain = [UpdateState::Failed, UpdateState::Away];
                        gone = gone.filter(agent_update::Column::State.is_in(asked_in_vain));
                    }
                    if change.forgets_updates || change.retries_failed {
                        gone.exec(transaction).await?;
                    }
                    let row =
                        change.row.into_active_model().reset_all().update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Deletes a group; false if there is none. Its agents stay as they are.
    pub async fn delete_group(
        &self,
        id: GroupId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = group::Entity::delete_many()
                        .filter(group::Column::Id.eq(id))
                        .filter(group::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    agent_update::Entity::delete_many()
                        .filter(agent_update::Column::GroupId.eq(id))
                        .exec(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Writes where agents of a group are, and which wave was begun; false if the group is not, or no
    /// longer, what it was when that was decided.
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
                        row.wave = sea_orm::ActiveValue::Set(wave);
                        row.update(transaction).await?;
                    }
                    for rows in updates.chunks(ROWS_AT_ONCE) {
                        let rows = rows.iter().cloned().map(agent_update::Model::into_active_model);
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

    /// Halts a group; false if it has changed since that was decided.
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
    /// Groups that wish for a version, whether they are carried out or not.
    pub async fn wishing_groups(&self) -> Result<Vec<group::Model>, StoreError> {
        let query = group::Entity::find()
            .filter(group::Column::WantedVersion.is_not_null())
            .order_by_asc(group::Column::Id);
        Ok(query.all(&self.reader).await?)
    }
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<group::Entity> {
    group::Entity::find()
        .filter(group::Column::TenantId.eq(tenant_id))
        .order_by_asc(group::Column::Id)
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
            Column::Wish,
            Column::Wave,
            Column::State,
            Column::CommandId,
            Column::Tries,
            Column::DueAt,
            Column::Code,
            Column::Message,
            Column::ChangedAt,
        ])
        .to_owned()
}
