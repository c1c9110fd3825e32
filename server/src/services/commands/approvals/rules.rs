//! Rules of approval. Only owners change them.

use std::collections::BTreeSet;

use muster_protocol::library::is_runnable_name;
use serde_json::json;

use super::Approvals;
use crate::domain::access::keys::key_limits::{MAX_FAN_OUT, MAX_KEY_SCRIPTS};
use crate::domain::access::principal::Scope;
use crate::domain::commands::approval::{
    ApprovalRule, DEFAULT_APPROVAL_WAIT_MS, MAX_APPROVAL_RULES, MAX_APPROVAL_WAIT_MS, RuleCondition,
};
use crate::domain::ids::ApprovalRuleId;
use crate::domain::name::check_name;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::keys::requested_limits::check_target;
use crate::services::access::people::confirmation::require_confirmed_if_person;
use crate::services::access::work_guard::require_unlimited;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::entities::column::StoredCondition;
use crate::store::entities::commands::approval_rule;

/// A new rule.
#[derive(Debug, Clone)]
pub struct NewApprovalRule {
    pub name: String,
    pub target: Option<String>,
    pub scripts: Vec<String>,
    pub ad_hoc: bool,
    pub life_cycle: bool,
    pub fan_out_above: Option<u32>,
    pub wait_ms: Option<u64>,
}

impl Approvals {
    /// Every rule, oldest first.
    pub async fn rules(&self, caller: &Caller) -> Result<Vec<ApprovalRule>> {
        caller.require(Scope::CommandsRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).approval_rules().await?;
        Ok(rows.into_iter().map(ApprovalRule::from).collect())
    }

    /// Adds a rule. It holds for work that is submitted after this returns.
    ///
    /// # Errors
    /// 422 names the field; 409 `too_many_rules`; 403 `confirmation_required` for a person.
    pub async fn create_rule(&self, caller: &Caller, new: NewApprovalRule) -> Result<ApprovalRule> {
        self.require_owner(caller).await?;
        let row = self.row(caller, new)?;
        let detail = json!({"name": row.name, "condition": row.condition, "wait_ms": row.wait_ms});
        let audit = caller.audit("approval_rule.create", subject(row.id), &detail, row.created_at);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.create_approval_rule(row.clone(), MAX_APPROVAL_RULES, audit).await {
            Err(StoreError::Refused(_)) => {
                return Err(ServiceError::Conflict {
                    code: "too_many_rules",
                    detail: format!(
                        "a tenant has at most {MAX_APPROVAL_RULES} rules of approval; delete one first"
                    ),
                });
            }
            stored => stored?,
        }
        self.guard.forget_rules(row.tenant_id);
        Ok(row.into())
    }

    /// Deletes a rule. Requests that it asked for still need their approval.
    pub async fn delete_rule(&self, caller: &Caller, id: ApprovalRuleId) -> Result<()> {
        self.require_owner(caller).await?;
        let tenant_id = caller.principal.tenant_id;
        let now = self.clock.now();
        let audit = caller.audit("approval_rule.delete", subject(id), &json!({}), now);
        if !self.store.tenant(tenant_id).delete_approval_rule(id, audit).await? {
            return Err(ServiceError::NotFound("rule of approval"));
        }
        self.guard.forget_rules(tenant_id);
        Ok(())
    }

    /// Rules protect against everybody else, so only owners change them, a member only with its password
    /// and no key with limits.
    pub(super) async fn require_owner(&self, caller: &Caller) -> Result<()> {
        caller.require(Scope::ApprovalsManage)?;
        require_unlimited(caller, "the agents of a rule change later")?;
        require_confirmed_if_person(&self.store, &self.clock, caller).await
    }

    fn row(&self, caller: &Caller, new: NewApprovalRule) -> Result<approval_rule::Model> {
        check_name(&new.name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
        if let Some(target) = &new.target {
            check_target(target)?;
        }
        let scripts: BTreeSet<String> = new.scripts.into_iter().collect();
        let are_names = scripts.iter().all(|name| is_runnable_name(name));
        if scripts.len() > MAX_KEY_SCRIPTS || !are_names {
            return Err(ServiceError::invalid_field(
                "scripts",
                "must be at most 256 names of scripts",
            ));
        }
        if let Some(count) = new.fan_out_above.filter(|count| *count > MAX_FAN_OUT) {
            let bounds = 0..=u64::from(MAX_FAN_OUT);
            return Err(ServiceError::out_of_range("fan_out_above", count.into(), bounds));
        }
        let wait_ms = new.wait_ms.unwrap_or(DEFAULT_APPROVAL_WAIT_MS);
        if !(1..=MAX_APPROVAL_WAIT_MS).contains(&wait_ms) {
            let bounds = 1..=MAX_APPROVAL_WAIT_MS;
            return Err(ServiceError::out_of_range("wait_ms", wait_ms, bounds));
        }
        Ok(approval_rule::Model {
            id: ApprovalRuleId::new(),
            tenant_id: caller.principal.tenant_id,
            name: new.name,
            condition: StoredCondition(RuleCondition {
                target: new.target,
                scripts,
                ad_hoc: new.ad_hoc,
                life_cycle: new.life_cycle,
                fan_out_above: new.fan_out_above,
            }),
            wait_ms: wait_ms.cast_signed(),
            created_at: self.clock.now(),
            created_by: caller.principal.id,
        })
    }
}

fn subject(id: ApprovalRuleId) -> Subject {
    Subject { kind: "approval_rule", id: id.0 }
}
