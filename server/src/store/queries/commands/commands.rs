//! Reads and cancels durable commands of a tenant.

use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _};

use crate::domain::commands::approval::WorkApproval;
use crate::domain::commands::command_state::{CommandEvent, CommandTransition, EndReason, step};
use crate::domain::commands::records::{CommandRecord, ReportRecord};
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{command, command_report};
use crate::store::entities::fleet::agent;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// A command with the report of its agent.
#[derive(Debug, Clone)]
pub struct CommandWithReport {
    pub command: CommandRecord,
    pub report: Option<ReportRecord>,
    /// The request for approval that it waits or waited for, where a service added it.
    pub approval: Option<WorkApproval>,
}

/// The result of a request to cancel.
#[derive(Debug, Clone)]
pub enum Cancelled {
    /// The tenant has no such command.
    Unknown,
    /// The command was sent to a basic agent, which cannot cancel.
    Unsupported,
    /// The request is stored. `is_sent`: the agent may have the command, and must be notified.
    Requested { command: Box<command::Model>, is_sent: bool },
}

impl TenantScope {
    /// One command.
    pub async fn command(&self, id: CommandId) -> Result<Option<CommandWithReport>, StoreError> {
        let query =
            command::Entity::find_by_id(id).filter(command::Column::TenantId.eq(self.tenant_id));
        let Some(command) = query.all(&self.reader).await?.pop() else { return Ok(None) };
        let report = match command.state.is_terminal() {
            true => command_report::Entity::find_by_id(id).all(&self.reader).await?.pop(),
            false => None,
        };
        Ok(Some(CommandWithReport {
            command: command.into(),
            report: report.map(ReportRecord::from),
            approval: None,
        }))
    }

    /// Stores a request to cancel. A queued command ends at once.
    pub async fn cancel_command(
        &self,
        id: CommandId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Cancelled, StoreError> {
        let tenant_id = self.tenant_id;
        let (cancelled, ended) = self
            .writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let query = command::Entity::find_by_id(id)
                        .filter(command::Column::TenantId.eq(tenant_id));
                    let Some(row) = query.one(transaction).await? else {
                        return Ok((Cancelled::Unknown, None));
                    };
                    if row.state.is_terminal() {
                        let command = Box::new(row);
                        return Ok((Cancelled::Requested { command, is_sent: false }, None));
                    }
                    let cancelled = cancel_open(transaction, row, now).await?;
                    let mut ended = None;
                    if let Cancelled::Requested { command, .. } = &cancelled {
                        ended = Some(command.state).filter(|state| state.is_terminal());
                        write_audit(transaction, audit).await?;
                    }
                    Ok((cancelled, ended))
                })
            })
            .await?;
        if let Some(state) = ended {
            self.writer.metrics().ended(state.as_str(), 1);
        }
        Ok(cancelled)
    }
}

async fn cancel_open(
    transaction: &DatabaseTransaction,
    mut row: command::Model,
    now: Timestamp,
) -> Result<Cancelled, StoreError> {
    let requested_at = row.cancel_requested_at.unwrap_or(now);
    row.cancel_requested_at = Some(requested_at);
    let mut update = command::Entity::update_many();
    let mut is_sent = true;
    if let CommandTransition::To(next) = step(row.state, CommandEvent::CancelRequested) {
        is_sent = false;
        row.state = next;
        row.finished_at = Some(now);
        row.end_reason = Some(EndReason::CancelledInQueue);
        update = end_of(next, now)
            .col_expr(command::Column::EndReason, EndReason::CancelledInQueue.as_str().into());
    } else {
        let agent = agent::Entity::find_by_id(row.agent_id).one(transaction).await?;
        if agent.is_some_and(|agent| agent.level == AgentLevel::Basic) {
            return Ok(Cancelled::Unsupported);
        }
    }
    update
        .col_expr(command::Column::CancelRequestedAt, requested_at.0.into())
        .filter(command::Column::Id.eq(row.id))
        .exec(transaction)
        .await?;
    Ok(Cancelled::Requested { command: Box::new(row), is_sent })
}
