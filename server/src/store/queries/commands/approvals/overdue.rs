//! How requests for approval end without a decision: their time is over, or their work ended before.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    QueryTrait as _,
};

use super::decisions::{end, waiting};
use crate::domain::commands::approval::ApprovalState;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::ids::{ApprovalId, CommandId, JobId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{approval, command};
use crate::store::queries::SystemScope;
use crate::store::requester::write_audit;

/// Requests that are read at once.
const SWEPT_AT_ONCE: u64 = 100;

/// Makes the entry of a request that ended by itself, in this state.
pub type AuditOfEnd = fn(&approval::Model, ApprovalState, Timestamp) -> audit_entry::Model;

/// A request whose time was over, or whose work had ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredApproval {
    pub id: ApprovalId,
    pub tenant_id: TenantId,
    pub job_id: Option<JobId>,
    pub state: ApprovalState,
    pub ended: Vec<CommandId>,
}

impl SystemScope {
    /// Ends requests whose time is over with their work, and those whose work has ended.
    pub async fn end_overdue_approvals(
        &self,
        now: Timestamp,
        audit: AuditOfEnd,
    ) -> Result<Vec<ExpiredApproval>, StoreError> {
        let mut ended = Vec::new();
        loop {
            let rows = self.overdue_approvals(now).await?;
            let is_last = (rows.len() as u64) < SWEPT_AT_ONCE;
            for row in rows {
                let change = self.writer.change(move |transaction| {
                    let row = row.clone();
                    Box::pin(async move { end_overdue(transaction, row, now, audit).await })
                });
                let swept = change.await?;
                if let Some(swept) = &swept {
                    let count = swept.ended.len() as u64;
                    self.writer.metrics().ended(CommandState::Expired.as_str(), count);
                }
                ended.extend(swept);
            }
            if is_last {
                return Ok(ended);
            }
        }
    }

    /// When the next request expires; `None` if none waits.
    pub async fn next_approval_end(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(approval::Entity::find()
            .select_only()
            .column(approval::Column::ExpiresAt)
            .filter(approval::Column::State.eq(ApprovalState::Pending))
            .order_by_asc(approval::Column::ExpiresAt)
            .limit(1)
            .into_tuple()
            .one(&self.reader)
            .await?)
    }

    /// Pending requests whose time is over, or of whose work nothing waits.
    async fn overdue_approvals(&self, now: Timestamp) -> Result<Vec<approval::Model>, StoreError> {
        // One subquery for jobs and one for single commands: each walks its index.
        let held = |of_work: (command::Column, approval::Column)| {
            let (column, work) = of_work;
            let is_of_work = Expr::col((command::Entity, column)).equals((approval::Entity, work));
            let held = command::Entity::find()
                .select_only()
                .column(command::Column::Id)
                .filter(is_of_work)
                .filter(command::Column::State.eq(CommandState::Queued))
                .filter(command::Column::IsHeld.eq(true));
            Expr::exists(held.into_query())
        };
        let of_job = held((command::Column::JobId, approval::Column::JobId));
        let of_command = held((command::Column::Id, approval::Column::CommandId));
        let is_over = Condition::any()
            .add(approval::Column::ExpiresAt.lte(now))
            .add(Condition::any().add(of_job).add(of_command).not());
        Ok(approval::Entity::find()
            .filter(approval::Column::State.eq(ApprovalState::Pending))
            .filter(is_over)
            .order_by_asc(approval::Column::ExpiresAt)
            .limit(SWEPT_AT_ONCE)
            .all(&self.reader)
            .await?)
    }
}

async fn end_overdue(
    transaction: &DatabaseTransaction,
    row: approval::Model,
    now: Timestamp,
    audit: AuditOfEnd,
) -> Result<Option<ExpiredApproval>, StoreError> {
    let stored = approval::Entity::find_by_id(row.id).all(transaction).await?.pop();
    let Some(row) = stored.filter(|row| row.state == ApprovalState::Pending) else {
        return Ok(None);
    };
    let held = waiting(transaction, &row).await?;
    let state = match held.is_empty() {
        true => ApprovalState::Withdrawn,
        false if row.expires_at <= now => ApprovalState::Expired,
        false => return Ok(None),
    };
    if state == ApprovalState::Expired {
        end(transaction, &row, (CommandState::Expired, EndReason::ApprovalExpired), now).await?;
    }
    let entry = audit(&row, state, now);
    let ended = ExpiredApproval {
        id: row.id,
        tenant_id: row.tenant_id,
        job_id: row.job_id,
        state,
        ended: held.into_iter().map(|(id, _)| id).collect(),
    };
    let mut changed = row.into_active_model();
    changed.state = Set(state);
    changed.decided_at = Set(Some(now));
    changed.update(transaction).await?;
    write_audit(transaction, entry).await?;
    Ok(Some(ended))
}
