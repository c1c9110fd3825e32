//! The deletion of a tenant: asked for by its owner or by the operator, withdrawn within the grace
//! period, and then carried out.

use std::sync::Arc;

use muster_protocol::CloseCode;
use serde_json::json;
use tokio::sync::Notify;

use super::administration::{TenantDetails, Tenants, UNKNOWN};
use crate::domain::access::principal::Scope;
use crate::domain::ids::TenantId;
use crate::domain::time::Clock;
use crate::hub::Hub;
use crate::services::access::caller::Caller;
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::people::confirmation::require_confirmed_if_person;
use crate::services::access::work_guard::require_unlimited;
use crate::services::error::{Result, ServiceError};
use crate::store::{Store, StoreError};

/// How long a deletion can be withdrawn: 7 days.
const GRACE_MS: u64 = 7 * 24 * 3_600_000;
/// Most slices that one run deletes.
const MAX_SLICES: u32 = 2_000;

/// Use cases of the deletion of tenants.
#[derive(Clone, Debug)]
pub struct TenantDeletion {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) tenants: Tenants,
    /// Notified when a deletion was requested.
    pub(in crate::services) requested: Arc<Notify>,
}

impl TenantDeletion {
    /// Reads which tenants are being deleted. Call it before the first request is accepted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(&self) -> std::result::Result<(), StoreError> {
        for id in self.store.system().closed_tenants().await? {
            self.cache.close_tenant(id);
        }
        Ok(())
    }

    /// Asks for the deletion of the caller's tenant. `name`: the name of the tenant, typed by a person.
    ///
    /// # Errors
    /// 422 for another name; 409 `first_tenant`; 403 `key_has_limits`.
    pub async fn request_own(&self, caller: &Caller, name: &str) -> Result<TenantDetails> {
        caller.require(Scope::TenantManage)?;
        require_unlimited(caller, "what belongs to the tenant changes later")?;
        require_confirmed_if_person(&self.store, &self.clock, caller).await?;
        self.request(caller, caller.principal.tenant_id, name, false).await
    }

    /// Asks for the deletion of a tenant, for the operator.
    ///
    /// # Errors
    /// As [`Self::request_own`]; 404.
    pub async fn request_of(
        &self,
        caller: &Caller,
        id: TenantId,
        name: &str,
    ) -> Result<TenantDetails> {
        caller.require(Scope::TenantsManage)?;
        self.request(caller, id, name, true).await
    }

    /// Withdraws the deletion of the caller's tenant.
    ///
    /// # Errors
    /// 404 once the deletion has begun; 409 `deleted_by_operator`.
    pub async fn restore_own(&self, caller: &Caller) -> Result<TenantDetails> {
        caller.require(Scope::TenantManage)?;
        self.restore(caller, caller.principal.tenant_id, false).await
    }

    /// Withdraws the deletion of a tenant, for the operator.
    ///
    /// # Errors
    /// 404, also once the deletion has begun.
    pub async fn restore_of(&self, caller: &Caller, id: TenantId) -> Result<TenantDetails> {
        caller.require(Scope::TenantsManage)?;
        self.restore(caller, id, true).await
    }

    async fn request(
        &self,
        caller: &Caller,
        id: TenantId,
        name: &str,
        is_operator: bool,
    ) -> Result<TenantDetails> {
        let scope = self.store.tenant(id);
        let tenant = scope.tenant().await?.ok_or(UNKNOWN)?;
        if tenant.name != name {
            return Err(ServiceError::invalid_field("name", "is not the name of the tenant"));
        }
        let first = self.store.system().first_tenant().await?;
        if first.is_some_and(|first| first.id == id) {
            return Err(ServiceError::Conflict {
                code: "first_tenant",
                detail: "this is the tenant of the server's operator, which can't be deleted"
                    .into(),
            });
        }
        let now = self.clock.now();
        let delete_at = now.plus_ms(GRACE_MS);
        let detail = json!({"delete_at": delete_at});
        let audit = self.tenants.audit(caller, "tenant.delete", id, &detail);
        scope.set_deletion(Some(delete_at), is_operator, now, audit).await?.ok_or(UNKNOWN)?;
        // First the keys, then the sessions: a session that opens meanwhile checks the first after it
        // is among the second.
        self.requested.notify_one();
        self.cache.close_tenant(id);
        self.hub.bump_key_revision();
        for session in self.hub.sessions().into_iter().filter(|session| session.tenant_id == id) {
            session.close(CloseCode::TenantClosed);
        }
        self.tenants.details(id).await
    }

    async fn restore(
        &self,
        caller: &Caller,
        id: TenantId,
        is_operator: bool,
    ) -> Result<TenantDetails> {
        let audit = self.tenants.audit(caller, "tenant.restore", id, &json!({}));
        let (scope, now) = (self.store.tenant(id), self.clock.now());
        let row = scope.set_deletion(None, is_operator, now, audit).await?.ok_or(UNKNOWN)?;
        if row.delete_at.is_some() {
            return Err(ServiceError::Conflict {
                code: "deleted_by_operator",
                detail: "the operator of this server deletes this tenant, and only the operator can withdraw that"
                    .into(),
            });
        }
        self.cache.open_tenant(id);
        self.tenants.details(id).await
    }

    /// Waits until a deletion is requested.
    pub async fn requested(&self) {
        self.requested.notified().await;
    }

    /// Deletes what is left of the tenants whose grace period is over. Returns in how many milliseconds
    /// the next one is due; `None` if no tenant is being deleted.
    ///
    /// # Errors
    /// [`StoreError`]; the next run continues.
    pub async fn erase_due(&self) -> std::result::Result<Option<u64>, StoreError> {
        let now = self.clock.now();
        let system = self.store.system();
        let mut slices = 0;
        for id in system.tenants_to_erase(now).await? {
            while system.erase_slice(id, now).await? {
                slices += 1;
                if slices >= MAX_SLICES {
                    return Ok(Some(0));
                }
            }
            // Its keys may still be cached.
            self.cache.forget_principals();
            self.cache.forget_grants();
            self.cache.open_tenant(id);
            tracing::info!(tenant_id = %id, "deleted a tenant and everything of it");
        }
        Ok(system.next_deletion().await?.map(|at| at.ms_since(self.clock.now())))
    }
}
