//! How another person decides about a request for approval, in one transaction with what follows for the
//! work.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QuerySelect as _,
};

use crate::domain::access::same_person::{Ownership, ServerAccess};
use crate::domain::commands::approval::ApprovalState;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::JobState;
use crate::domain::ids::{AgentId, ApprovalId, CommandId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::{audit_entry, member};
use crate::store::entities::commands::{approval, command, job, rollout};
use crate::store::queries::TenantScope;
use crate::store::queries::access::keys::key_lineage::all_keys;
use crate::store::queries::access::keys::known_secrets::all_secrets;
use crate::store::requester::write_audit;

/// A person's decision about a request for approval.
#[derive(Debug, Clone)]
pub struct Decision {
    pub is_approved: bool,
    pub by: PrincipalId,
    pub reason: Option<String>,
    /// What an approver has signed about each command, JSON; empty for a decision without signatures.
    pub capsules: Vec<(CommandId, String)>,
    pub now: Timestamp,
}

/// What a decision changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReleasedWork {
    /// Agents with commands that may be sent now.
    pub agents: Vec<AgentId>,
    /// Commands that ended.
    pub ended: Vec<CommandId>,
}

/// The result of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecisionResult {
    Done(ReleasedWork),
    Unknown,
    /// It was decided, has expired, or its work has ended.
    NotPending(ApprovalState),
    /// A person decides about an own request.
    OwnRequest,
}

impl TenantScope {
    /// Stores a decision, and releases or ends the work.
    pub async fn decide_approval(
        &self,
        id: ApprovalId,
        decision: Decision,
        audit: audit_entry::Model,
    ) -> Result<DecisionResult, StoreError> {
        let tenant_id = self.tenant_id;
        let result = self
            .writer
            .change(move |transaction| {
                let (decision, audit) = (decision.clone(), audit.clone());
                Box::pin(async move { decide(transaction, tenant_id, id, decision, audit).await })
            })
            .await?;
        if let DecisionResult::Done(released) = &result {
            let ended = released.ended.len() as u64;
            self.writer.metrics().ended(CommandState::Rejected.as_str(), ended);
        }
        Ok(result)
    }
}

/// Limits a query to the commands of the work that wait.
pub(super) fn held_of<Q: sea_orm::QueryFilter>(row: &approval::Model, query: Q) -> Q {
    let is_of_work = match (row.job_id, row.command_id) {
        (Some(id), _) => command::Column::JobId.eq(id),
        (None, id) => command::Column::Id.eq(id),
    };
    query
        .filter(is_of_work)
        .filter(command::Column::State.eq(CommandState::Queued))
        .filter(command::Column::IsHeld.eq(true))
}

async fn decide(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    id: ApprovalId,
    decision: Decision,
    audit: audit_entry::Model,
) -> Result<DecisionResult, StoreError> {
    let query = approval::Entity::find_by_id(id).filter(approval::Column::TenantId.eq(tenant_id));
    let Some(row) = query.all(transaction).await?.pop() else {
        return Ok(DecisionResult::Unknown);
    };
    if row.state != ApprovalState::Pending {
        return Ok(DecisionResult::NotPending(row.state));
    }
    let ownership = ownership(transaction, tenant_id).await?;
    if ownership.is_same_person(row.requested_by, decision.by) {
        return Ok(DecisionResult::OwnRequest);
    }
    if row.expires_at <= decision.now {
        return Ok(DecisionResult::NotPending(ApprovalState::Expired));
    }
    let held = waiting(transaction, &row).await?;
    if held.is_empty() {
        return Ok(DecisionResult::NotPending(ApprovalState::Withdrawn));
    }
    let released = match decision.is_approved {
        true => {
            for (command_id, capsule) in decision.capsules {
                held_of(&row, command::Entity::update_many())
                    .col_expr(command::Column::Capsule, Expr::value(capsule))
                    .filter(command::Column::Id.eq(command_id))
                    .exec(transaction)
                    .await?;
            }
            release(transaction, &row, decision.now).await?;
            let agents = held.into_iter().map(|(_, agent_id)| agent_id).collect();
            ReleasedWork { agents, ended: Vec::new() }
        }
        false => {
            end(
                transaction,
                &row,
                (CommandState::Rejected, EndReason::ApprovalRefused),
                decision.now,
            )
            .await?;
            let ended = held.into_iter().map(|(id, _)| id).collect();
            ReleasedWork { agents: Vec::new(), ended }
        }
    };
    let state = if decision.is_approved { ApprovalState::Approved } else { ApprovalState::Refused };
    let mut changed = row.into_active_model();
    changed.state = Set(state);
    changed.decided_by = Set(Some(decision.by));
    changed.decided_at = Set(Some(decision.now));
    changed.reason = Set(decision.reason);
    changed.update(transaction).await?;
    write_audit(transaction, audit).await?;
    Ok(DecisionResult::Done(released))
}

/// The commands of the work that wait, with their agents.
pub(super) async fn waiting(
    transaction: &DatabaseTransaction,
    row: &approval::Model,
) -> Result<Vec<(CommandId, AgentId)>, StoreError> {
    let query = command::Entity::find()
        .select_only()
        .column(command::Column::Id)
        .column(command::Column::AgentId);
    Ok(held_of(row, query).into_tuple().all(transaction).await?)
}

/// Lifts the holds of the work. In a rollout the reconciler does that, wave by wave.
async fn release(
    transaction: &DatabaseTransaction,
    row: &approval::Model,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Some(job_id) = row.job_id {
        job::Entity::update_many()
            .col_expr(job::Column::State, JobState::Running.as_str().into())
            .filter(job::Column::Id.eq(job_id))
            .filter(job::Column::State.eq(JobState::AwaitingApproval))
            .exec(transaction)
            .await?;
        // The time that it waited for the approval does not count against offline agents.
        let moved = rollout::Entity::update_many()
            .col_expr(rollout::Column::ResumedAt, now.0.into())
            .filter(rollout::Column::JobId.eq(job_id))
            .exec(transaction)
            .await?;
        if moved.rows_affected > 0 {
            return Ok(());
        }
    }
    let expires_at = now.plus_ms(row.expires_in_ms.unsigned_abs());
    held_of(row, command::Entity::update_many())
        .col_expr(command::Column::IsHeld, Expr::value(false))
        .col_expr(command::Column::ExpiresAt, expires_at.0.into())
        .exec(transaction)
        .await?;
    Ok(())
}

pub(super) async fn end(
    transaction: &DatabaseTransaction,
    row: &approval::Model,
    (state, reason): (CommandState, EndReason),
    now: Timestamp,
) -> Result<(), StoreError> {
    held_of(row, end_of(state, now))
        .col_expr(command::Column::EndReason, reason.as_str().into())
        .exec(transaction)
        .await?;
    if let Some(job_id) = row.job_id {
        // It finishes like any job whose executions have all ended.
        job::Entity::update_many()
            .col_expr(job::Column::State, JobState::Running.as_str().into())
            .filter(job::Column::Id.eq(job_id))
            .filter(job::Column::State.eq(JobState::AwaitingApproval))
            .exec(transaction)
            .await?;
    }
    Ok(())
}

/// Who acts for whom in a tenant: keys for everybody who ever created or rotated them, members for their
/// person.
async fn ownership(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
) -> Result<Ownership, StoreError> {
    let mut ownership = Ownership::default();
    for key in all_keys(transaction, tenant_id).await? {
        match key.created_by {
            Some(owner) => ownership.add(key.id.into(), owner),
            None => ownership.add_of_server(key.id.into(), ServerAccess::Key),
        }
    }
    for secret in all_secrets(transaction, tenant_id).await? {
        if let Some(owner) = secret.made_by {
            ownership.add(secret.key_id.into(), owner);
        }
    }
    let members = member::Entity::find()
        .filter(Condition::all().add(member::Column::TenantId.eq(tenant_id)))
        .all(transaction)
        .await?;
    for member in members {
        let person = PrincipalId(member.user_id.0);
        ownership.add(PrincipalId(member.id.0), person);
        if member.is_from_setup {
            ownership.add_of_server(person, ServerAccess::Member);
        }
    }
    Ok(ownership)
}
