//! The owner of a schedule or of a hook, with the rights that it has now.

use std::sync::Arc;

use super::Schedules;
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

/// A principal with the rights that it has now; `None` if its key was revoked or has expired, or the
/// member was removed.
pub(super) async fn current_owner(
    store: &Store,
    tenant_id: TenantId,
    id: PrincipalId,
    now: Timestamp,
) -> Result<Option<Caller>, StoreError> {
    let found = store.tenant(tenant_id).schedule_owner(id).await?;
    let principal = match found {
        Some(ScheduleOwner::ApiKey(key)) => {
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
        Some(ScheduleOwner::Member(member)) => Principal {
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
        None => return Ok(None),
    };
    let is_valid = principal.expires_at.is_none_or(|at| at > now);
    Ok(is_valid.then(|| Caller { principal: Arc::new(principal), source: None }))
}
