//! The ladder of a tenant. Only owners change it, as they change the rules of approval.

use std::collections::BTreeSet;

use serde_json::json;

use super::Approvals;
use crate::domain::access::principal::Scope;
use crate::domain::commands::ladder::{Ladder, MAX_LADDER_STEPS};
use crate::domain::name::check_tags;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::column::StoredLadder;
use crate::store::entities::commands::ladder;

impl Approvals {
    /// The ladder of the caller's tenant.
    pub async fn ladder(&self, caller: &Caller) -> Result<Ladder> {
        caller.require(Scope::CommandsRead)?;
        Ok(self.store.tenant(caller.principal.tenant_id).ladder().await?)
    }

    /// Replaces the ladder. It holds for work that is submitted after this returns.
    ///
    /// # Errors
    /// 422 names the field; 403 `confirmation_required` for a person.
    pub async fn set_ladder(&self, caller: &Caller, ladder: Ladder) -> Result<Ladder> {
        self.require_owner(caller).await?;
        check(&ladder)?;
        let (tenant_id, now) = (caller.principal.tenant_id, self.clock.now());
        let subject = Subject { kind: "ladder", id: tenant_id.0 };
        let audit = caller.audit("ladder.update", subject, &json!({"steps": ladder}), now);
        let row = ladder::Model {
            tenant_id,
            steps: StoredLadder(ladder.clone()),
            changed_at: now,
            changed_by: caller.principal.id,
        };
        self.store.tenant(tenant_id).set_ladder(row, audit).await?;
        self.guard.forget_rules(tenant_id);
        Ok(ladder)
    }
}

fn check(ladder: &Ladder) -> Result<()> {
    if ladder.0.len() > MAX_LADDER_STEPS {
        return Err(ServiceError::out_of_range(
            "steps",
            ladder.0.len() as u64,
            0..=MAX_LADDER_STEPS as u64,
        ));
    }
    let mut seen = BTreeSet::new();
    for (n, step) in ladder.0.iter().enumerate() {
        let field = |name: &str| format!("steps[{n}].{name}");
        check_tags(step.tag.as_slice())
            .map_err(|problem| ServiceError::invalid_field(&field("tag"), problem))?;
        if step.from_agents == 0 {
            let bounds = 1..=u64::from(u32::MAX);
            return Err(ServiceError::out_of_range(&field("from_agents"), 0, bounds));
        }
        if !seen.insert((&step.tag, step.from_agents)) {
            let problem = "repeats a step with the same tag and number";
            return Err(ServiceError::invalid_field(&field("from_agents"), problem));
        }
    }
    Ok(())
}
