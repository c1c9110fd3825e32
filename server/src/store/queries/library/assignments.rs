//! Assignments of a tenant: changes by people, and what hosts must have.

use std::collections::{BTreeSet, HashMap};

use muster_protocol::limits::SETTLED_RETENTION_MS;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::ids::{AgentId, AssignmentId, PrincipalId, TenantId};
use crate::domain::library::assignment_records::{
    AssignmentRecord, AssignmentStateRecord, WantedAssignment, WantedRollout,
};
use crate::domain::library::assignment_rollout::AssignmentRollout;
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::library::{assignment, assignment_state};
use crate::store::queries::library::assigned_contents::{current, of_tenant, require_content};
use crate::store::queries::library::assignment_rollouts::{
    end_rollout, refuse_under_way, start_rollout,
};
use crate::store::queries::library::services::delete_controls_of_assignment;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::{invalid_requesters, rights_of_keys, write_audit};

/// The tenant has as many assignments as it may have.
pub const TOO_MANY_ASSIGNMENTS: &str = "the tenant has too many assignments";
/// Agents of one query.
const AGENTS_AT_ONCE: usize = 256;

/// How many assignments a tenant may have.
#[derive(Debug, Clone, Copy)]
pub struct AssignmentLimits {
    pub count: u64,
    /// With those that are deleted, and whose runs hosts may still report.
    pub with_deleted: u64,
}

impl TenantScope {
    /// Stores an assignment.
    ///
    /// # Errors
    /// [`StoreError::Refused`] at the limit, if its name is taken, or without what it names.
    pub async fn create_assignment(
        &self,
        row: assignment::Model,
        rollout: Option<AssignmentRollout>,
        limits: AssignmentLimits,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, rollout, audit) = (row.clone(), rollout.clone(), audit.clone());
                Box::pin(async move {
                    remove_old(transaction, row.tenant_id, row.created_at).await?;
                    let all = of_tenant(row.tenant_id).count(transaction).await?;
                    let current = current(row.tenant_id).count(transaction).await?;
                    if all >= limits.with_deleted || current >= limits.count {
                        return Err(StoreError::Refused(TOO_MANY_ASSIGNMENTS));
                    }
                    check_name(transaction, &row).await?;
                    require_content(transaction, &row).await?;
                    assignment::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    if let Some(rollout) = rollout {
                        start_rollout(transaction, rollout).await?;
                    }
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// One page of assignments, newest first, with one row more than the limit if there is one.
    pub async fn assignments(
        &self,
        page: PageRequest,
    ) -> Result<Vec<assignment::Model>, StoreError> {
        let mut query =
            current(self.tenant_id).order_by_desc(assignment::Column::Id).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(assignment::Column::Id.lt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One assignment.
    pub async fn assignment(
        &self,
        id: AssignmentId,
    ) -> Result<Option<AssignmentRecord>, StoreError> {
        let query = current(self.tenant_id).filter(assignment::Column::Id.eq(id));
        Ok(query.all(&self.reader).await?.pop().map(Into::into))
    }

    /// Changes an assignment, and starts a rollout if its version is to reach the agents in waves; false if it does
    /// not exist or was changed since `was_changed_at`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if its name is taken, without what it names, or if its version changes while a rollout is
    /// under way.
    pub async fn change_assignment(
        &self,
        row: assignment::Model,
        rollout: Option<AssignmentRollout>,
        was_changed_at: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, rollout, audit) = (row.clone(), rollout.clone(), audit.clone());
                Box::pin(async move {
                    check_name(transaction, &row).await?;
                    require_content(transaction, &row).await?;
                    let found = current(row.tenant_id)
                        .filter(assignment::Column::Id.eq(row.id))
                        .filter(assignment::Column::ChangedAt.eq(was_changed_at))
                        .lock_exclusive()
                        .all(transaction)
                        .await?;
                    let Some(found) = found.first() else { return Ok(false) };
                    if found.content_id != row.content_id {
                        refuse_under_way(transaction, row.id).await?;
                    }
                    if let Some(rollout) = rollout {
                        start_rollout(transaction, rollout).await?;
                    }
                    row.into_active_model().reset_all().update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Deletes an assignment; false if it does not exist. The row remains for runs that hosts still report.
    pub async fn delete_assignment(
        &self,
        id: AssignmentId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = assignment::Entity::update_many()
                        .col_expr(assignment::Column::DeletedAt, audit.at.0.into())
                        .filter(assignment::Column::Id.eq(id))
                        .filter(assignment::Column::TenantId.eq(tenant_id))
                        .filter(assignment::Column::DeletedAt.is_null())
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    delete_controls_of_assignment(transaction, id).await?;
                    end_rollout(transaction, id).await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// The assignments that hold now, oldest first, with the rights of the keys that made them: those of keys that
    /// are revoked and of members that are removed do not.
    pub async fn wanted_assignments(
        &self,
        now: Timestamp,
    ) -> Result<Vec<WantedAssignment>, StoreError> {
        // A version that is read without its rollout would reach every agent at once.
        let snapshot = self.assignment_view().await?;
        let rows = current(self.tenant_id).order_by_asc(assignment::Column::Id);
        let rows = rows.all(&snapshot).await?;
        let rollouts = self.reached_by_rollouts(&snapshot).await?;
        snapshot.commit().await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let creators: BTreeSet<PrincipalId> = rows.iter().map(|row| row.created_by).collect();
        let invalid = invalid_requesters(&self.reader, creators.clone(), now).await?;
        let makers = rights_of_keys(&self.reader, creators).await?;
        let former = rollouts.values().filter_map(|(rollout, _)| rollout.former.as_ref());
        let ids = rows.iter().map(|row| row.content_id);
        let contents = self.assigned_contents(ids.chain(former.map(|it| it.content_id)).collect());
        let contents = contents.await?;
        let wanted = rows.into_iter().filter(|row| !invalid.contains(&row.created_by));
        let wanted = wanted.filter_map(|row| {
            let content = contents.get(&row.content_id)?.clone();
            let maker = makers.get(&row.created_by).cloned();
            let rollout = rollouts.get(&row.id).map(|(rollout, reached)| WantedRollout {
                former: rollout
                    .former
                    .as_ref()
                    .and_then(|former| contents.get(&former.content_id).cloned()),
                reached: reached.clone(),
            });
            Some(WantedAssignment { row: row.into(), content, rollout, maker })
        });
        Ok(wanted.collect())
    }

    /// True if the key or the member that asked for something may still do so.
    pub async fn is_valid_requester(
        &self,
        id: PrincipalId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(invalid_requesters(&self.reader, BTreeSet::from([id]), now).await?.is_empty())
    }

    /// The rights of the key that asked for something; `None` for a member.
    pub async fn rights_of_requester(
        &self,
        id: PrincipalId,
    ) -> Result<Option<KeyRights>, StoreError> {
        Ok(rights_of_keys(&self.reader, BTreeSet::from([id])).await?.remove(&id))
    }

    /// The last reports of these agents about an assignment.
    pub async fn assignment_states(
        &self,
        id: AssignmentId,
        agents: &[AgentId],
    ) -> Result<HashMap<AgentId, AssignmentStateRecord>, StoreError> {
        let mut states = HashMap::with_capacity(agents.len());
        for agents in agents.chunks(AGENTS_AT_ONCE) {
            let rows = assignment_state::Entity::find()
                .filter(assignment_state::Column::TenantId.eq(self.tenant_id))
                .filter(assignment_state::Column::AssignmentId.eq(id))
                .filter(assignment_state::Column::AgentId.is_in(agents.iter().copied()))
                .all(&self.reader)
                .await?;
            states.extend(rows.into_iter().map(|row| (row.agent_id, row.into())));
        }
        Ok(states)
    }
}

impl SystemScope {
    /// The tenants with assignments.
    pub async fn tenants_with_assignments(&self) -> Result<Vec<TenantId>, StoreError> {
        Ok(assignment::Entity::find()
            .select_only()
            .column(assignment::Column::TenantId)
            .distinct()
            .filter(assignment::Column::DeletedAt.is_null())
            .into_tuple()
            .all(&self.reader)
            .await?)
    }
}

/// Deletes the assignments that were deleted so long ago that no host has runs of them.
async fn remove_old(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    now: Timestamp,
) -> Result<(), StoreError> {
    assignment::Entity::delete_many()
        .filter(assignment::Column::TenantId.eq(tenant_id))
        .filter(assignment::Column::DeletedAt.lt(now.minus_ms(SETTLED_RETENTION_MS)))
        .exec(transaction)
        .await?;
    Ok(())
}

async fn check_name(
    transaction: &DatabaseTransaction,
    row: &assignment::Model,
) -> Result<(), StoreError> {
    let others = current(row.tenant_id)
        .filter(assignment::Column::Name.eq(row.name.as_str()))
        .filter(assignment::Column::Id.ne(row.id));
    match others.count(transaction).await? {
        0 => Ok(()),
        _ => Err(StoreError::Refused("the assignment's name is taken")),
    }
}
