//! Deletion of agents.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
};

use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::fleet::agent::AgentEventKind;
use crate::domain::ids::{AgentId, CommandId, EventId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::{audit_entry, tenant};
use crate::store::entities::certificates::client_certificate;
use crate::store::entities::commands::command;
use crate::store::entities::fleet::{
    agent, agent_event, agent_fact, agent_fact_report, agent_manifest,
};
use crate::store::entities::library::{assignment_state, rollout_share, service_control};
use crate::store::entities::releases::agent_update;
use crate::store::entities::schedules::trigger_state;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// Who requested the deletion.
#[derive(Debug, Clone, Copy)]
pub enum Deletion {
    /// A person.
    Operator,
    /// The agent itself, in the session with this epoch, which must be its newest.
    Agent { epoch: i64 },
}

impl TenantScope {
    /// Deletes an agent and ends its open commands. Its history stays. Returns the ended commands;
    /// `None` if the agent does not exist, or has a newer session.
    pub async fn delete_agent(
        &self,
        id: AgentId,
        deletion: Deletion,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<Vec<CommandId>>, StoreError> {
        let tenant_id = self.tenant_id;
        let ended = self
            .writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let mut delete = agent::Entity::update_many()
                        .col_expr(agent::Column::DeletedAt, now.0.into())
                        .col_expr(agent::Column::IsOnline, false.into())
                        .filter(agent::Column::Id.eq(id))
                        .filter(agent::Column::TenantId.eq(tenant_id))
                        .filter(agent::Column::DeletedAt.is_null());
                    if let Deletion::Agent { epoch } = deletion {
                        delete = delete.filter(agent::Column::Epoch.eq(epoch));
                    }
                    if delete.exec(transaction).await?.rows_affected == 0 {
                        return Ok(None);
                    }
                    agent_update::Entity::delete_by_id(id).exec(transaction).await?;
                    delete_manifest(transaction, id).await?;
                    delete_facts(transaction, id).await?;
                    delete_trigger_states(transaction, id).await?;
                    delete_assignment_states(transaction, id).await?;
                    delete_certificates(transaction, id).await?;
                    let ended = end_commands(transaction, id, now).await?;
                    if let Deletion::Agent { .. } = deletion {
                        let event = agent_event::Model {
                            id: EventId::new(),
                            tenant_id,
                            agent_id: id,
                            kind: AgentEventKind::Deregistered,
                            detail: None,
                            at: now,
                        };
                        agent_event::Entity::insert(event.into_active_model())
                            .exec_without_returning(transaction)
                            .await?;
                    }
                    write_audit(transaction, audit).await?;
                    Ok(Some(ended))
                })
            })
            .await?;
        let Some(ended) = ended else { return Ok(None) };
        for (state, ids) in &ended {
            self.writer.metrics().ended(state.as_str(), ids.len() as u64);
        }
        Ok(Some(ended.into_iter().flat_map(|(_, ids)| ids).collect()))
    }
}

/// Deletes the manifest of a deleted agent, which makes room for those of others.
async fn delete_manifest(
    transaction: &DatabaseTransaction,
    agent_id: AgentId,
) -> Result<(), StoreError> {
    let found = agent_manifest::Entity::find_by_id(agent_id).one(transaction).await?;
    let agent = agent::Entity::find_by_id(agent_id).one(transaction).await?;
    let (Some(row), Some(agent)) = (found, agent) else { return Ok(()) };
    let less = |column: tenant::Column, size: i64| Expr::col(column).sub(size);
    tenant::Entity::update_many()
        .col_expr(
            tenant::Column::ManifestBytes,
            less(tenant::Column::ManifestBytes, row.size_bytes),
        )
        .col_expr(
            tenant::Column::ManifestScripts,
            less(tenant::Column::ManifestScripts, row.script_count),
        )
        .filter(tenant::Column::Id.eq(agent.tenant_id))
        .exec(transaction)
        .await?;
    agent_manifest::Entity::delete_by_id(agent_id).exec(transaction).await?;
    Ok(())
}

/// Deletes the facts of a deleted agent.
async fn delete_facts(
    transaction: &DatabaseTransaction,
    agent_id: AgentId,
) -> Result<(), StoreError> {
    agent_fact::Entity::delete_many()
        .filter(agent_fact::Column::AgentId.eq(agent_id))
        .exec(transaction)
        .await?;
    agent_fact_report::Entity::delete_by_id(agent_id).exec(transaction).await?;
    Ok(())
}

/// Deletes the certificates of a deleted agent.
async fn delete_certificates(
    transaction: &DatabaseTransaction,
    agent_id: AgentId,
) -> Result<(), StoreError> {
    client_certificate::Entity::delete_many()
        .filter(client_certificate::Column::HolderId.eq(agent_id.0))
        .exec(transaction)
        .await?;
    Ok(())
}

/// Deletes what schedules keep for a deleted agent.
async fn delete_trigger_states(
    transaction: &DatabaseTransaction,
    agent_id: AgentId,
) -> Result<(), StoreError> {
    trigger_state::Entity::delete_many()
        .filter(trigger_state::Column::AgentId.eq(agent_id))
        .exec(transaction)
        .await?;
    Ok(())
}

/// Deletes what a deleted agent has reported about its assignments, and what was wanted of its services.
async fn delete_assignment_states(
    transaction: &DatabaseTransaction,
    agent_id: AgentId,
) -> Result<(), StoreError> {
    assignment_state::Entity::delete_many()
        .filter(assignment_state::Column::AgentId.eq(agent_id))
        .exec(transaction)
        .await?;
    rollout_share::Entity::delete_many()
        .filter(rollout_share::Column::AgentId.eq(agent_id))
        .exec(transaction)
        .await?;
    service_control::Entity::delete_many()
        .filter(service_control::Column::AgentId.eq(agent_id))
        .exec(transaction)
        .await?;
    Ok(())
}

/// Deletes an agent whose host is another agent from now on. Returns the ended commands by state.
pub(super) async fn retire(
    transaction: &DatabaseTransaction,
    id: AgentId,
    now: Timestamp,
) -> Result<Vec<(CommandState, Vec<CommandId>)>, StoreError> {
    agent::Entity::update_many()
        .col_expr(agent::Column::DeletedAt, now.0.into())
        .col_expr(agent::Column::IsOnline, false.into())
        .filter(agent::Column::Id.eq(id))
        .exec(transaction)
        .await?;
    agent_update::Entity::delete_by_id(id).exec(transaction).await?;
    delete_manifest(transaction, id).await?;
    delete_trigger_states(transaction, id).await?;
    delete_assignment_states(transaction, id).await?;
    end_commands(transaction, id, now).await
}

/// Ends the open commands of a deleted agent, and returns how many ended in which state.
async fn end_commands(
    transaction: &DatabaseTransaction,
    agent_id: AgentId,
    now: Timestamp,
) -> Result<Vec<(CommandState, Vec<CommandId>)>, StoreError> {
    let mut ended = Vec::new();
    for (from, to) in [
        (vec![CommandState::Queued], CommandState::Cancelled),
        (vec![CommandState::Delivered, CommandState::Running], CommandState::Lost),
    ] {
        let ids: Vec<CommandId> = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .filter(command::Column::AgentId.eq(agent_id))
            // Uses the index of open commands, not of the whole history.
            .filter(command::Column::FinishedAt.is_null())
            .filter(command::Column::State.is_in(from.clone()))
            .into_tuple()
            .all(transaction)
            .await?;
        end_of(to, now)
            .col_expr(command::Column::EndReason, EndReason::AgentDeleted.as_str().into())
            .filter(command::Column::AgentId.eq(agent_id))
            .filter(command::Column::FinishedAt.is_null())
            .filter(command::Column::State.is_in(from))
            .exec(transaction)
            .await?;
        ended.push((to, ids));
    }
    Ok(ended)
}
