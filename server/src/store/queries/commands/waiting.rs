//! What queued executions wait for: the time of their attempt, or another execution that holds their lock.

use std::collections::HashMap;

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, JobId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::delivery_conditions::HOLDING;
use crate::store::entities::commands::command;
use crate::store::queries::{SystemScope, TenantScope};

/// A queued execution that runs another one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingAttempt {
    pub job_id: JobId,
    pub agent_id: AgentId,
    /// It is not sent earlier.
    pub not_before: Timestamp,
}

/// A lock of an agent.
pub type AgentLock = (AgentId, String);

impl SystemScope {
    /// The attempts of these jobs that are queued and not held.
    pub async fn waiting_attempts(
        &self,
        jobs: &[JobId],
    ) -> Result<Vec<WaitingAttempt>, StoreError> {
        type Row = (Option<JobId>, AgentId, Option<Timestamp>);
        let rows: Vec<Row> = command::Entity::find()
            .select_only()
            .columns([command::Column::JobId, command::Column::AgentId, command::Column::NotBefore])
            .filter(command::Column::JobId.is_in(jobs.iter().copied()))
            .filter(command::Column::NotBefore.is_not_null())
            .filter(command::Column::FinishedAt.is_null())
            .filter(command::Column::State.eq(CommandState::Queued))
            .filter(command::Column::IsHeld.eq(false))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let attempt = |(job_id, agent_id, not_before): Row| {
            Some(WaitingAttempt { job_id: job_id?, agent_id, not_before: not_before? })
        };
        Ok(rows.into_iter().filter_map(attempt).collect())
    }
}

impl TenantScope {
    /// Which commands hold the locks of these agents.
    pub async fn lock_holders(
        &self,
        agents: Vec<AgentId>,
    ) -> Result<HashMap<AgentLock, CommandId>, StoreError> {
        let rows: Vec<(AgentId, String, CommandId)> = command::Entity::find()
            .select_only()
            .columns([command::Column::AgentId, command::Column::LockName, command::Column::Id])
            .filter(command::Column::TenantId.eq(self.tenant_id))
            .filter(command::Column::AgentId.is_in(agents))
            .filter(command::Column::LockName.is_not_null())
            .filter(command::Column::FinishedAt.is_null())
            .filter(command::Column::State.is_in(HOLDING))
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(rows.into_iter().map(|(agent, lock, id)| ((agent, lock), id)).collect())
    }
}
