//! Requests for approval and their rules.

mod decisions;
mod overdue;

pub use self::decisions::{Decision, DecisionResult, ReleasedWork};
pub use self::overdue::{AuditOfEnd, ExpiredApproval};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::approval::ApprovalState;
use crate::domain::ids::{AgentId, ApprovalId, ApprovalRuleId, CommandId, JobId};
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{approval, approval_rule, command};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

impl TenantScope {
    /// Every rule, oldest first.
    pub async fn approval_rules(&self) -> Result<Vec<approval_rule::Model>, StoreError> {
        Ok(approval_rule::Entity::find()
            .filter(approval_rule::Column::TenantId.eq(self.tenant_id))
            .order_by_asc(approval_rule::Column::Id)
            .all(&self.reader)
            .await?)
    }

    /// Stores a rule.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the tenant has `most` rules already.
    pub async fn create_approval_rule(
        &self,
        row: approval_rule::Model,
        most: usize,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let known = approval_rule::Entity::find()
                        .filter(approval_rule::Column::TenantId.eq(tenant_id))
                        .count(transaction)
                        .await?;
                    if known >= most as u64 {
                        return Err(StoreError::Refused("the tenant has too many rules"));
                    }
                    approval_rule::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// Deletes a rule; false if there is none. Requests that it asked for still need their approval.
    pub async fn delete_approval_rule(
        &self,
        id: ApprovalRuleId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = approval_rule::Entity::delete_many()
                        .filter(approval_rule::Column::Id.eq(id))
                        .filter(approval_rule::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// One page of requests, newest first, with one row more than the limit if there is one.
    pub async fn approvals(
        &self,
        state: Option<ApprovalState>,
        page: PageRequest,
    ) -> Result<Vec<approval::Model>, StoreError> {
        let mut query = approval::Entity::find()
            .filter(approval::Column::TenantId.eq(self.tenant_id))
            .order_by_desc(approval::Column::Id)
            .limit(page.limit + 1);
        if let Some(state) = state {
            query = query.filter(approval::Column::State.eq(state));
        }
        if let Some(after) = page.after {
            query = query.filter(approval::Column::Id.lt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One request.
    pub async fn approval(&self, id: ApprovalId) -> Result<Option<approval::Model>, StoreError> {
        let query =
            approval::Entity::find_by_id(id).filter(approval::Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// The requests for these jobs and commands.
    pub async fn approvals_of_work(
        &self,
        jobs: Vec<JobId>,
        commands: Vec<CommandId>,
    ) -> Result<Vec<approval::Model>, StoreError> {
        let mut found = Vec::new();
        // Two queries, so that each uses its index.
        let conditions = [
            (!jobs.is_empty()).then(|| approval::Column::JobId.is_in(jobs)),
            (!commands.is_empty()).then(|| approval::Column::CommandId.is_in(commands)),
        ];
        for condition in conditions.into_iter().flatten() {
            let query = approval::Entity::find()
                .filter(approval::Column::TenantId.eq(self.tenant_id))
                .filter(condition);
            found.extend(query.all(&self.reader).await?);
        }
        Ok(found)
    }

    /// The commands of the work that a request is for with their agents, in the order of the agents' ids.
    pub async fn commands_of_approval(
        &self,
        row: &approval::Model,
    ) -> Result<Vec<(CommandId, AgentId)>, StoreError> {
        let query = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .column(command::Column::AgentId)
            .filter(command::Column::TenantId.eq(self.tenant_id))
            .filter(match (row.job_id, row.command_id) {
                (Some(id), _) => command::Column::JobId.eq(id),
                (None, id) => command::Column::Id.eq(id),
            })
            .order_by_asc(command::Column::AgentId);
        Ok(query.into_tuple().all(&self.reader).await?)
    }
}
