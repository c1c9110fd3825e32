//! Capacity for new agents in the plans of their tenants.
//!
//! The writer applies one batch at a time, so a count that is read in its transaction, with the agents
//! that the batch itself enrols, is exact: enrolments at the same time never exceed a limit.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};

use crate::domain::access::tenants::plan::{Plan, PlanResource};
use crate::domain::ids::TenantId;
use crate::store::entities::access::tenant;
use crate::store::entities::fleet::agent;
use crate::store::writer::rows::pad_to_power_of_two;

/// Agents of the tenants whose plans limit them. Tenants without a limit are not in it.
#[derive(Debug, Default)]
pub(super) struct PlanCapacity(HashMap<TenantId, (Plan, u64)>);

impl PlanCapacity {
    /// Reads what is needed to enrol agents in these tenants.
    pub(super) async fn read(
        &mut self,
        transaction: &DatabaseTransaction,
        tenants: BTreeSet<TenantId>,
    ) -> Result<(), DbErr> {
        let plans: Vec<(TenantId, Plan)> = tenant::Entity::find()
            .select_only()
            .column(tenant::Column::Id)
            .column(tenant::Column::Plan)
            .filter(tenant::Column::Id.is_in(pad_to_power_of_two(tenants)))
            .into_tuple()
            .all(transaction)
            .await?;
        let is_limited = |(_, plan): &(TenantId, Plan)| plan.limits().max_agents.is_some();
        let limited: HashMap<_, _> = plans.into_iter().filter(is_limited).collect();
        if limited.is_empty() {
            return Ok(());
        }
        let counts: Vec<(TenantId, i64)> = agent::Entity::find()
            .select_only()
            .column(agent::Column::TenantId)
            .column_as(agent::Column::Id.count(), "agents")
            .filter(agent::Column::TenantId.is_in(pad_to_power_of_two(limited.keys().copied())))
            .filter(agent::Column::DeletedAt.is_null())
            .group_by(agent::Column::TenantId)
            .into_tuple()
            .all(transaction)
            .await?;
        let counts: HashMap<_, _> = counts.into_iter().collect();
        for (tenant_id, plan) in limited {
            let count = counts.get(&tenant_id).copied().unwrap_or(0).unsigned_abs();
            // A later part of the batch must not forget what an earlier one enrolled.
            self.0.entry(tenant_id).or_insert((plan, count));
        }
        Ok(())
    }

    /// True if the tenant may enrol one more agent.
    pub(super) fn has_capacity(&self, tenant_id: TenantId) -> bool {
        let known = self.0.get(&tenant_id);
        known.is_none_or(|(plan, count)| plan.check_limit(PlanResource::Agents, *count).is_ok())
    }

    pub(super) fn count_one_more(&mut self, tenant_id: TenantId) {
        if let Some((_, count)) = self.0.get_mut(&tenant_id) {
            *count += 1;
        }
    }
}
