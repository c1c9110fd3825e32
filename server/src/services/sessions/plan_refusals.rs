//! Reports new agents that the plan of their tenant has no room for: an audit entry and an event.
//!
//! A refused agent tries again every minute, so a host is reported once an hour, and a tenant has at
//! most [`MAX_REPORTED`] reports in that time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use serde_json::json;

use super::{SessionRequest, Sessions};
use crate::domain::access::tenants::plan::{Plan, PlanResource};
use crate::domain::ids::{AgentKeyId, TenantId};
use crate::domain::integrations::tenant_event::TenantEvent;
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::StoreError;
use crate::store::writer::AppendAudit;

/// How often a refused host is reported, and the period of [`MAX_REPORTED`].
const REPORT_EVERY: Duration = Duration::from_secs(3_600);
/// Most reports of a tenant in that period.
const MAX_REPORTED: u32 = 20;
/// Most hosts that are remembered, of all tenants together.
const MAX_REMEMBERED: u64 = 10_000;

/// What was reported in the last hour. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct PlanRefusals {
    hosts: Cache<(AgentKeyId, String), ()>,
    counts: Cache<TenantId, Arc<AtomicU32>>,
}

impl Default for PlanRefusals {
    fn default() -> Self {
        Self {
            hosts: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REPORT_EVERY).build(),
            counts: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(REPORT_EVERY)
                .build(),
        }
    }
}

impl PlanRefusals {
    /// True for a host that is to be reported, which is then remembered.
    fn must_report(&self, tenant_id: TenantId, key_id: AgentKeyId, hostname: &str) -> bool {
        let host = (key_id, hostname.to_owned());
        if self.hosts.contains_key(&host) {
            return false;
        }
        let count = self.counts.get_with(tenant_id, Arc::default);
        if count.fetch_add(1, Ordering::Relaxed) >= MAX_REPORTED {
            return false;
        }
        self.hosts.insert(host, ());
        true
    }
}

impl Sessions {
    /// Reports an agent that was refused by the plan of its tenant.
    pub(super) fn report_plan_refusal(&self, request: &SessionRequest, hostname: String) {
        let (tenant_id, key_id) = (request.grant.tenant_id, request.grant.key_id);
        if !self.plan_refusals.must_report(tenant_id, key_id, &hostname) {
            return;
        }
        let sessions = self.clone();
        tokio::spawn(async move {
            if let Err(error) = sessions.store_plan_refusal(tenant_id, key_id, hostname).await {
                tracing::warn!(%tenant_id, %error, "failed to store the report about a refused agent");
            }
        });
    }

    async fn store_plan_refusal(
        &self,
        tenant_id: TenantId,
        key_id: AgentKeyId,
        hostname: String,
    ) -> Result<(), StoreError> {
        let tenant = self.store.tenant(tenant_id).tenant().await?;
        let plan = tenant.map_or(Plan::DEFAULT, |tenant| tenant.plan);
        // A plan that was raised meanwhile admits the agent at its next attempt.
        let Some(limit) = plan.limits().max_agents else { return Ok(()) };
        let action = AuditAction {
            tenant_id,
            action: "tenant.limit",
            subject: Subject { kind: "tenant", id: tenant_id.0 },
            detail: &json!({"plan": plan, "resource": PlanResource::Agents.to_string(),
                "limit": limit, "key_id": key_id, "hostname": hostname}),
            at: self.clock.now(),
        };
        self.store.writer().commit(AppendAudit(action.by_system())).await?;
        self.hub.notify_refused(tenant_id, TenantEvent::AgentRefused { key_id, hostname, limit });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_reported_once_and_a_tenant_a_bounded_number_of_times() {
        let refusals = PlanRefusals::default();
        let (tenant_id, key_id) = (TenantId::new(), AgentKeyId::new());
        let report = |host: &str| refusals.must_report(tenant_id, key_id, host);
        assert!(report("one") && !report("one"));
        let hosts: Vec<_> = (0..100).map(|number| format!("host-{number}")).collect();
        let reported = hosts.iter().filter(|host| report(host)).count();
        assert_eq!(reported, MAX_REPORTED as usize - 1);
        assert!(refusals.must_report(TenantId::new(), AgentKeyId::new(), "one"), "another tenant");
    }
}
