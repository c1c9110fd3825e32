//! The owner of a schedule or of a hook, with the rights that it has now.

use std::sync::Arc;

use super::Schedules;
use super::request::template;
use crate::domain::access::keys::key_limits::KeyLimits;
use crate::domain::access::principal::{Principal, PrincipalKind};
use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::schedules::records::ScheduleRecord;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::store::queries::ScheduleOwner;
use crate::store::{Store, StoreError};

impl Schedules {
    /// The owner as the one who asks for a job; `None` if its key was revoked or has expired, or the
    /// member was removed.
    pub(super) async fn owner(
        &self,
        row: &ScheduleRecord,
        now: Timestamp,
    ) -> Result<Option<Caller>, StoreError> {
        current_owner(&self.store, row.tenant_id, row.owner_id, now).await
    }
}

impl Schedules {
    /// The owner of the tenant to whom a schedule passes whose own owner left; `None` if it has to stop:
    /// the tenant does not pass schedules on, has no owner who is a member, or the former owner had limits
    /// or lacked a right that the job needs, and so nothing may run with more rights than before.
    pub(super) async fn successor(
        &self,
        row: &ScheduleRecord,
    ) -> Result<Option<PrincipalId>, StoreError> {
        let tenant = self.store.tenant(row.tenant_id);
        if !tenant.tenant().await?.is_some_and(|tenant| tenant.passes_schedules_on) {
            return Ok(None);
        }
        // The person of a revoked key may still decide about approvals, and would be the writer of what
        // another person requests.
        let Some(former @ ScheduleOwner::Member(_)) =
            tenant.former_schedule_owner(row.owner_id).await?
        else {
            return Ok(None);
        };
        let principal = principal(row.tenant_id, row.owner_id, former);
        let former = Caller {
            principal: Arc::new(principal),
            source: None,
            request_id: None,
            certificate: None,
        };
        let Ok(job) = template(row) else { return Ok(None) };
        let may_run = former.principal.limits.is_empty()
            && self.jobs.check_template(&former, job.request()).is_ok();
        if !may_run {
            return Ok(None);
        }
        tenant.oldest_owner().await
    }
}

/// A principal with the rights that it has now; `None` if its key was revoked or has expired, or the
/// member was removed.
pub(super) async fn current_owner(
    store: &Store,
    tenant_id: TenantId,
    id: PrincipalId,
    now: Timestamp,
) -> Result<Option<Caller>, StoreError> {
    let found = store.tenant(tenant_id).schedule_owner(id).await?;
    let Some(principal) = found.map(|found| principal(tenant_id, id, found)) else {
        return Ok(None);
    };
    let is_valid = principal.expires_at.is_none_or(|at| at > now);
    Ok(is_valid.then(|| Caller {
        principal: Arc::new(principal),
        source: None,
        request_id: None,
        certificate: None,
    }))
}

fn principal(tenant_id: TenantId, id: PrincipalId, owner: ScheduleOwner) -> Principal {
    match owner {
        ScheduleOwner::ApiKey(key) => {
            let rights = key.rights();
            Principal {
                tenant_id,
                id,
                kind: PrincipalKind::ApiKey,
                name: key.name,
                role: rights.role,
                scopes: rights.scopes,
                expires_at: rights.expires_at,
                limits: rights.limits,
                secret_hash: None,
                lacks_second_factor: false,
            }
        }
        ScheduleOwner::Member(member) => Principal {
            tenant_id,
            id,
            kind: PrincipalKind::AbsentMember,
            name: String::new(),
            role: member.role,
            scopes: member.role.tenant_scopes(),
            expires_at: None,
            limits: KeyLimits::default(),
            secret_hash: None,
            lacks_second_factor: false,
        },
    }
}
