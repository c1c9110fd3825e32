//! Tenants: the operator creates them and sets their plans; an owner sees and renames its own.

use std::ops::RangeInclusive;
use std::sync::Arc;

use muster_protocol::parameter::secret::API_KEY_PREFIX;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::domain::access::credential::NewSecret;
use crate::domain::access::principal::{ActorKind, Role, Scope};
use crate::domain::access::tenants::plan::Plan;
use crate::domain::access::tenants::tenant::{TenantRecord, TenantUsage};
use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::name::check_name;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::services::Settings;
use crate::services::access::authentication::Authentication;
use crate::services::access::caller::{AuditAction, Caller, Subject};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::people::confirmation::require_confirmed;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::audit_entry;
use crate::store::queries::{TenantAudit, TenantChange};

pub(super) const UNKNOWN: ServiceError = ServiceError::NotFound("tenant");
/// Quota of history and output that an operator may set: 1 MiB to 1 PiB.
const QUOTA_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 50;
/// A day in milliseconds.
const DAY_MS: u64 = 24 * 3_600_000;

/// Use cases of tenants.
#[derive(Clone, Debug)]
pub struct Tenants {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    pub(in crate::services) cache: KeyCache,
    /// One usage is counted at a time, because a count reads a whole history.
    pub(in crate::services) counting: Arc<Semaphore>,
}

/// A tenant with what it has and may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantDetails {
    pub tenant: TenantRecord,
    /// How long its history is kept: by the plan and by the setting of the server.
    pub history_days: u64,
    pub usage: TenantUsage,
}

/// What an owner changes. `None` keeps the value.
#[derive(Debug, Clone, Default)]
pub struct OwnChange {
    pub name: Option<String>,
    pub requires_second_factor: Option<bool>,
    pub passes_schedules_on: Option<bool>,
}

/// A new tenant with the secret of its owner's API key, which is shown only once.
pub struct MadeTenant {
    pub tenant: TenantRecord,
    pub history_days: u64,
    pub secret: String,
}

impl Tenants {
    /// One page of all tenants, for the operator.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<TenantRecord>> {
        caller.require(Scope::TenantsManage)?;
        let rows = self.store.system().tenants(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(TenantRecord::from))
    }

    /// One tenant, for the operator.
    pub async fn get(&self, caller: &Caller, id: TenantId) -> Result<TenantDetails> {
        caller.require(Scope::TenantsManage)?;
        self.details(id).await
    }

    /// The caller's tenant.
    pub async fn own(&self, caller: &Caller) -> Result<TenantDetails> {
        caller.require(Scope::AgentsRead)?;
        self.details(caller.principal.tenant_id).await
    }

    /// Creates a tenant with its owner's API key, which has no right over the whole server.
    ///
    /// # Errors
    /// 422 for a name.
    pub async fn create(
        &self,
        caller: &Caller,
        name: &str,
        plan: Option<Plan>,
    ) -> Result<MadeTenant> {
        caller.require(Scope::TenantsManage)?;
        check(name)?;
        let secret = NewSecret::random(API_KEY_PREFIX)?;
        let authentication = Authentication::new(self.store.clone(), self.clock.clone());
        let mut rows = authentication.first_rows(name, &secret, Role::tenant_scopes);
        rows.tenant.plan = plan.unwrap_or(Plan::DEFAULT);
        rows.api_key.name = "owner".into();
        rows.audit = by_operator(rows.audit);
        let detail = json!({"name": name, "plan": rows.tenant.plan});
        let now = rows.tenant.created_at;
        let requested = caller.audit("tenant.create", subject(rows.tenant.id), &detail, now);
        let tenant = TenantRecord::from(rows.tenant.clone());
        self.store.system().create_tenant(rows, requested).await?;
        let history_days = self.history_days(tenant.plan);
        Ok(MadeTenant { tenant, history_days, secret: secret.secret })
    }

    /// Changes name, plan and quota, for the operator. A lower plan keeps what there is.
    ///
    /// # Errors
    /// 422 for a name or a quota.
    pub async fn update(
        &self,
        caller: &Caller,
        id: TenantId,
        change: TenantChange,
    ) -> Result<TenantDetails> {
        caller.require(Scope::TenantsManage)?;
        if let Some(Some(bytes)) = change.storage_quota_bytes
            && !QUOTA_BYTES.contains(&bytes)
        {
            return Err(ServiceError::out_of_range("storage_quota_bytes", bytes, QUOTA_BYTES));
        }
        self.change(caller, id, change).await
    }

    /// Changes the caller's tenant.
    ///
    /// # Errors
    /// 422 for a name. Whether a second factor is required changes only an owner who is signed in: 403
    /// `session_required`, `confirmation_required`, and 409 `second_factor_missing` for one who has none.
    pub async fn update_own(&self, caller: &Caller, change: OwnChange) -> Result<TenantDetails> {
        caller.require(Scope::TenantManage)?;
        let OwnChange { name, requires_second_factor, passes_schedules_on } = change;
        if let Some(is_required) = requires_second_factor {
            let live = require_confirmed(&self.store, &self.clock, caller).await?;
            if is_required && self.store.system().lacks_second_factor(&live.user).await? {
                return Err(ServiceError::Conflict {
                    code: "second_factor_missing",
                    detail:
                        "enable your own second factor first; without it you could not undo this"
                            .into(),
                });
            }
        }
        let change = TenantChange {
            name,
            requires_second_factor,
            passes_schedules_on,
            ..TenantChange::default()
        };
        let details = self.change(caller, caller.principal.tenant_id, change).await?;
        if requires_second_factor.is_some() {
            self.cache.forget_principals();
        }
        Ok(details)
    }

    async fn change(
        &self,
        caller: &Caller,
        id: TenantId,
        change: TenantChange,
    ) -> Result<TenantDetails> {
        if let Some(name) = &change.name {
            check(name)?;
        }
        let mut detail = json!({"name": change.name, "plan": change.plan});
        if let Some(is_required) = change.requires_second_factor {
            detail["requires_second_factor"] = is_required.into();
        }
        if let Some(passes_on) = change.passes_schedules_on {
            detail["passes_schedules_on"] = passes_on.into();
        }
        if let Some(bytes) = change.storage_quota_bytes {
            detail["storage_quota_bytes"] = json!(bytes);
        }
        let audit = self.audit(caller, "tenant.update", id, &detail);
        self.store.tenant(id).update_tenant(change, audit).await?.ok_or(UNKNOWN)?;
        self.details(id).await
    }

    /// The entries of a change: the tenant's own log does not name another tenant's key.
    pub(super) fn audit(
        &self,
        caller: &Caller,
        action: &'static str,
        id: TenantId,
        detail: &serde_json::Value,
    ) -> TenantAudit {
        let now = self.clock.now();
        let requested = caller.audit(action, subject(id), detail, now);
        let in_tenant = (caller.principal.tenant_id != id).then(|| {
            let subject = subject(id);
            by_operator(AuditAction { tenant_id: id, action, subject, detail, at: now }.by_system())
        });
        TenantAudit { requested, in_tenant }
    }

    pub(super) async fn details(&self, id: TenantId) -> Result<TenantDetails> {
        let scope = self.store.tenant(id);
        let tenant = TenantRecord::from(scope.tenant().await?.ok_or(UNKNOWN)?);
        // Never closed.
        let _permit = self.counting.acquire().await.ok();
        let usage = scope.tenant_usage().await?;
        Ok(TenantDetails { history_days: self.history_days(tenant.plan), tenant, usage })
    }

    /// How many days of history a plan keeps on this server.
    pub fn history_days(&self, plan: Plan) -> u64 {
        plan.history_ms(self.settings.history_retention_ms) / DAY_MS
    }
}

fn check(name: &str) -> Result<()> {
    check_name(name).map_err(|problem| ServiceError::invalid_field("name", problem))
}

pub(super) fn subject(id: TenantId) -> Subject {
    Subject { kind: "tenant", id: id.0 }
}

fn by_operator(entry: audit_entry::Model) -> audit_entry::Model {
    let actor_id = Some(PrincipalId::OPERATOR.0);
    audit_entry::Model { actor_kind: ActorKind::Operator, actor_id, ..entry }
}
