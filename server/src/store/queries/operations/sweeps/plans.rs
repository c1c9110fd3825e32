//! The tenants whose plans keep history for a shorter time than the server.

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::access::tenants::plan::Plan;
use crate::domain::ids::{TenantId, first_id_at};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::tenant;
use crate::store::entities::commands::{command, job};
use crate::store::entities::fleet::{agent, agent_event};
use crate::store::entities::integrations::delivery;
use crate::store::queries::SystemScope;

impl SystemScope {
    /// The tenants of a plan that have history from before an instant. Some of it may have to stay, such
    /// as commands that have not ended.
    pub async fn tenants_with_old_history(
        &self,
        plan: Plan,
        before: Timestamp,
    ) -> Result<Vec<TenantId>, StoreError> {
        let first_kept = first_id_at(before);
        let commands = own(command::Entity, command::Column::TenantId)
            .and_where(Expr::col((command::Entity, command::Column::Id)).lt(first_kept))
            .and_where(Expr::cust("is_indexed"))
            .take();
        let jobs = own(job::Entity, job::Column::TenantId)
            .and_where(Expr::col((job::Entity, job::Column::Id)).lt(first_kept))
            .take();
        let deliveries = own(delivery::Entity, delivery::Column::TenantId)
            .and_where(Expr::col((delivery::Entity, delivery::Column::Id)).lt(first_kept))
            .and_where(delivery::Column::FinishedAt.is_not_null())
            .take();
        let events = own(agent::Entity, agent::Column::TenantId)
            .inner_join(
                agent_event::Entity,
                Expr::col((agent_event::Entity, agent_event::Column::AgentId))
                    .equals((agent::Entity, agent::Column::Id)),
            )
            .and_where(Expr::col((agent_event::Entity, agent_event::Column::Id)).lt(first_kept))
            .take();
        let has_old = [commands, jobs, deliveries, events]
            .into_iter()
            .fold(Condition::any(), |any, query| any.add(Expr::exists(query)));
        Ok(tenant::Entity::find()
            .select_only()
            .column(tenant::Column::Id)
            .filter(tenant::Column::Plan.eq(plan))
            .filter(has_old)
            .order_by_asc(tenant::Column::Id)
            .into_tuple()
            .all(&self.reader)
            .await?)
    }
}

/// Any row of the tenant in a table.
fn own<E: EntityTrait>(table: E, tenant_id: E::Column) -> SelectStatement {
    Query::select()
        .expr(Expr::val(1))
        .from(table)
        .and_where(Expr::col((table, tenant_id)).equals((tenant::Entity, tenant::Column::Id)))
        .take()
}
