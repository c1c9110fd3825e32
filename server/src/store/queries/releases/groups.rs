//! Groups of agents that follow one version: changes by people.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, UpdateMany,
};

use crate::domain::ids::{GroupId, TenantId};
use crate::domain::page::PageRequest;
use crate::domain::releases::group::UpdateState;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::releases::{agent_update, group};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// A change of a group.
#[derive(Debug, Clone)]
pub struct GroupChange {
    /// The new row.
    pub row: group::Model,
    /// `changed_at` of the row that the change is based on.
    pub was_changed_at: Timestamp,
    /// Deletes the updates of the previous desired version.
    pub forgets_updates: bool,
    /// Tries failed and unreachable agents again, and waives the health gate of the last wave.
    pub retries_failed: bool,
}

impl GroupChange {
    /// The row to write. Waves advance without a new `changed_at`, so their columns are taken from
    /// the stored row, not from the row that the change is based on.
    fn over(self, found: &group::Model) -> group::Model {
        match (self.forgets_updates, self.retries_failed) {
            (true, _) => self.row,
            (false, true) => {
                group::Model { wave: found.wave, healthy_wave: found.wave, ..self.row }
            }
            (false, false) => {
                group::Model { wave: found.wave, healthy_wave: found.healthy_wave, ..self.row }
            }
        }
    }
}

impl TenantScope {
    /// Stores a new group.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another group has the name, or the tenant has `most` groups.
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

    /// One group.
    pub async fn group(&self, id: GroupId) -> Result<Option<group::Model>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(group::Column::Id.eq(id));
        Ok(query.one(&self.reader).await?)
    }

    /// Every group, oldest first. An agent belongs to the first group that matches it.
    pub async fn all_groups(&self) -> Result<Vec<group::Model>, StoreError> {
        Ok(of_tenant(self.tenant_id).all(&self.reader).await?)
    }

    /// Changes a group; `None` if it does not exist or was changed by another request.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another group has the name.
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
                    let id = change.row.id;
                    let found = known.into_iter().find(|row| row.id == id);
                    let is_as_thought =
                        |row: &group::Model| row.changed_at == change.was_changed_at;
                    let Some(found) = found.filter(is_as_thought) else { return Ok(None) };
                    let mut gone = agent_update::Entity::delete_many()
                        .filter(agent_update::Column::GroupId.eq(id));
                    if !change.forgets_updates {
                        let asked_in_vain = [UpdateState::Failed, UpdateState::Unreachable];
                        gone = gone.filter(agent_update::Column::State.is_in(asked_in_vain));
                    }
                    if !change.forgets_updates && change.retries_failed {
                        probe_again(id, change.row.changed_at).exec(transaction).await?;
                    }
                    if change.forgets_updates || change.retries_failed {
                        gone.exec(transaction).await?;
                    }
                    let row = change.over(&found);
                    let row = row.into_active_model().reset_all().update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Deletes a group; false if it does not exist. Its agents keep their version.
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
}

/// Lets canaries that run the new version, and whose no-op execution failed, run it again: they need no update,
/// and without their row they would count as up to date.
fn probe_again(group: GroupId, now: Timestamp) -> UpdateMany<agent_update::Entity> {
    agent_update::Entity::update_many()
        .filter(agent_update::Column::GroupId.eq(group))
        .filter(agent_update::Column::State.eq(UpdateState::Failed))
        .filter(agent_update::Column::IsCanary.eq(true))
        .filter(agent_update::Column::ProbeCommandId.is_not_null())
        .col_expr(agent_update::Column::State, Expr::value(UpdateState::Pending))
        .col_expr(agent_update::Column::Tries, Expr::value(0))
        .col_expr(agent_update::Column::DueAt, Expr::value(now.0))
        .col_expr(agent_update::Column::ChangedAt, Expr::value(now.0))
        .col_expr(agent_update::Column::Code, Expr::value(None::<String>))
        .col_expr(agent_update::Column::Message, Expr::value(None::<String>))
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<group::Entity> {
    group::Entity::find()
        .filter(group::Column::TenantId.eq(tenant_id))
        .order_by_asc(group::Column::Id)
}
