//! Services of a tenant: what people want of them on single agents, and counts of their states.

use std::collections::{BTreeMap, HashMap};

use muster_protocol::package::ServiceControl;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{AgentId, AssignmentId, PrincipalId};
use crate::domain::library::assignment_records::{AssignedKind, ServiceAction};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::library::{assignment, assignment_state, service_control};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// Agents of one statement.
const AGENTS_AT_ONCE: usize = 256;

/// A request of a person about a service.
#[derive(Debug, Clone, Copy)]
pub struct ServiceRequest {
    pub assignment_id: AssignmentId,
    pub action: ServiceAction,
    pub requested_by: PrincipalId,
    pub now: Timestamp,
}

impl TenantScope {
    /// One page of services, newest first, with one row more than the limit if there is one.
    pub async fn services(&self, page: PageRequest) -> Result<Vec<assignment::Model>, StoreError> {
        let mut query = assignment::Entity::find()
            .filter(assignment::Column::TenantId.eq(self.tenant_id))
            .filter(assignment::Column::Kind.eq(AssignedKind::Service))
            .filter(assignment::Column::DeletedAt.is_null())
            .order_by_desc(assignment::Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(assignment::Column::Id.lt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// On how many agents each of these services is in which state, by their last reports.
    pub async fn service_counts(
        &self,
        ids: &[AssignmentId],
    ) -> Result<HashMap<AssignmentId, BTreeMap<String, i64>>, StoreError> {
        let rows: Vec<(AssignmentId, String, i64)> = assignment_state::Entity::find()
            .select_only()
            .column(assignment_state::Column::AssignmentId)
            .column(assignment_state::Column::ServiceState)
            .column_as(assignment_state::Column::AgentId.count(), "agents")
            .filter(assignment_state::Column::TenantId.eq(self.tenant_id))
            .filter(assignment_state::Column::AssignmentId.is_in(ids.iter().copied()))
            .filter(assignment_state::Column::ServiceState.is_not_null())
            .group_by(assignment_state::Column::AssignmentId)
            .group_by(assignment_state::Column::ServiceState)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let mut counts: HashMap<AssignmentId, BTreeMap<String, i64>> = HashMap::new();
        for (id, state, count) in rows {
            counts.entry(id).or_default().insert(state, count);
        }
        Ok(counts)
    }

    /// Stores what is wanted of a service on these agents; false if it does not exist.
    pub async fn control_service(
        &self,
        request: ServiceRequest,
        agents: Vec<AgentId>,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (agents, audit) = (agents.clone(), audit.clone());
                Box::pin(async move {
                    let known = assignment::Entity::find_by_id(request.assignment_id)
                        .filter(assignment::Column::TenantId.eq(tenant_id))
                        .filter(assignment::Column::Kind.eq(AssignedKind::Service))
                        .filter(assignment::Column::DeletedAt.is_null())
                        .one(transaction)
                        .await?;
                    if known.is_none() {
                        return Ok(false);
                    }
                    let row = |agent_id| service_control::Model {
                        assignment_id: request.assignment_id,
                        agent_id,
                        tenant_id,
                        is_stopped: request.action == ServiceAction::Stop,
                        restart_requests: i64::from(request.action == ServiceAction::Restart),
                        changed_by: request.requested_by,
                        changed_at: request.now,
                    };
                    for agents in agents.chunks(AGENTS_AT_ONCE) {
                        let rows = agents.iter().map(|id| row(*id).into_active_model());
                        service_control::Entity::insert_many(rows)
                            .on_conflict(changes(request.action))
                            .exec_without_returning(transaction)
                            .await?;
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// What is wanted of the tenant's services on these agents. Without an entry a service runs.
    pub async fn service_controls(
        &self,
        agents: &[AgentId],
    ) -> Result<HashMap<(AssignmentId, AgentId), ServiceControl>, StoreError> {
        let mut controls = HashMap::new();
        for agents in agents.chunks(AGENTS_AT_ONCE) {
            let rows = service_control::Entity::find()
                .filter(service_control::Column::TenantId.eq(self.tenant_id))
                .filter(service_control::Column::AgentId.is_in(agents.iter().copied()))
                .all(&self.reader)
                .await?;
            controls.extend(rows.into_iter().map(|row| {
                let restart_requests = u64::try_from(row.restart_requests).unwrap_or_default();
                let control = ServiceControl { is_stopped: row.is_stopped, restart_requests };
                ((row.assignment_id, row.agent_id), control)
            }));
        }
        Ok(controls)
    }
}

/// Deletes what was wanted of a service that is deleted.
pub(in crate::store::queries) async fn delete_controls_of_assignment(
    connection: &impl ConnectionTrait,
    id: AssignmentId,
) -> Result<(), StoreError> {
    service_control::Entity::delete_many()
        .filter(service_control::Column::AssignmentId.eq(id))
        .exec(connection)
        .await?;
    Ok(())
}

/// How a request changes what is stored already. A restart also starts what is stopped.
fn changes(action: ServiceAction) -> OnConflict {
    use service_control::Column;
    let mut conflict = OnConflict::columns([Column::AssignmentId, Column::AgentId]);
    conflict.update_columns([Column::IsStopped, Column::ChangedBy, Column::ChangedAt]);
    if action == ServiceAction::Restart {
        let requests = Expr::col((service_control::Entity, Column::RestartRequests)).add(1);
        conflict.value(Column::RestartRequests, requests);
    }
    conflict
}
