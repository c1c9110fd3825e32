//! Inbound hooks: use cases of the API. [`delivery`] takes what other programs send.

mod delivery;
mod limiter;
mod request;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use self::delivery::{Delivered, TestedHook};
pub(in crate::services) use self::limiter::HookLimiter;
pub use self::request::HookRequest;
use super::owner::current_owner;
use crate::domain::access::credential::NoRandomness;
use crate::domain::access::principal::Scope;
use crate::domain::ids::{HookId, TenantId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::schedules::hook::proof::{SECRET_BYTES, secret_text};
use crate::domain::schedules::hook::template::Fields;
use crate::domain::schedules::hook::{HookDeliveryRecord, HookRecord};
use crate::domain::schedules::records::JobTemplate;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::services::access::caller::{Caller, Subject};
use crate::services::commands::jobs::Jobs;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::schedules::hook;
use crate::store::queries::TOO_MANY_HOOKS;
use crate::store::{Store, StoreError};

/// A sealed secret is bound to this field.
pub(in crate::services) const FIELD: &str = "hooks.sealed";
/// Most hooks of one tenant.
const MAX_HOOKS: u64 = 1_000;
const UNKNOWN: ServiceError = ServiceError::NotFound("hook");

/// Use cases of hooks.
#[derive(Clone, Debug)]
pub struct Hooks {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) jobs: Jobs,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) limiter: HookLimiter,
}

/// A hook with the current name of its owner, where it was read.
#[derive(Debug, Clone)]
pub struct HookSnapshot {
    pub row: HookRecord,
    pub owner_name: Option<String>,
}

/// A hook with its secret, which is not shown again.
pub struct HookWithSecret {
    pub hook: HookSnapshot,
    pub secret: Zeroizing<String>,
}

impl From<HookRecord> for HookSnapshot {
    fn from(row: HookRecord) -> Self {
        Self { row, owner_name: None }
    }
}

impl Hooks {
    /// Creates a hook. The caller becomes its owner.
    ///
    /// # Errors
    /// 403 if the caller may not submit the job itself; 422 names the field; 409 `hook_exists` or
    /// `too_many_hooks`.
    pub async fn create(&self, caller: &Caller, request: HookRequest) -> Result<HookWithSecret> {
        caller.require(Scope::SchedulesWrite)?;
        let row = self.new_row(caller, request)?;
        self.check_script(caller, &row).await?;
        self.jobs.check_reach(caller, template(&row)?.request()).await?;
        let (secret, sealed) = self.new_secret(row.tenant_id)?;
        let audit = caller.audit("hook.create", subject(row.id), &detail(&row), row.created_at);
        let tenant = self.store.tenant(row.tenant_id);
        let stored = tenant.create_hook(hook::Model::of(row.clone(), sealed), MAX_HOOKS, audit);
        match stored.await {
            Err(StoreError::Refused(TOO_MANY_HOOKS)) => return Err(too_many()),
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            stored => stored?,
        }
        Ok(HookWithSecret { hook: row.into(), secret })
    }

    /// One page of hooks, oldest first.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<HookSnapshot>> {
        caller.require(Scope::SchedulesRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).hooks(page).await?;
        let snapshot = |row| HookSnapshot::from(HookRecord::from(row));
        let mut page = Page::of(rows, page, |row| row.id.0).map(snapshot);
        self.add_names(caller, &mut page.items).await?;
        Ok(page)
    }

    /// One hook.
    pub async fn get(&self, caller: &Caller, id: HookId) -> Result<HookSnapshot> {
        caller.require(Scope::SchedulesRead)?;
        let mut found = HookRecord::from(self.find(caller, id).await?).into();
        self.add_names(caller, std::slice::from_mut(&mut found)).await?;
        Ok(found)
    }

    /// Changes a hook. Only the owner can change its work: jobs run with the rights of the person who knows the
    /// secret, so that this person can't approve work that their own delivery requested.
    ///
    /// # Errors
    /// As [`Hooks::create`]; 403 if another principal owns it and the caller lacks `commands:manage`; 409
    /// `secret_of_another`, `hook_changed`.
    pub async fn update(
        &self,
        caller: &Caller,
        id: HookId,
        request: HookRequest,
    ) -> Result<HookSnapshot> {
        let known = self.find_to_change(caller, id).await?;
        let now = self.clock.now();
        let takes_over = request.changes_work();
        if takes_over && known.owner_id != caller.principal.id {
            return Err(ServiceError::Conflict {
                code: "secret_of_another",
                detail: "the owner of this hook knows its secret, and its jobs would run with your rights; replace the secret first, which makes you the owner".into(),
            });
        }
        let row = self.with_changes(caller, known.clone().into(), request, now)?;
        if takes_over {
            self.check_script(caller, &row).await?;
            self.jobs.check_reach(caller, template(&row)?.request()).await?;
        }
        self.store_change(caller, "hook.update", known.sealed.clone(), row, known).await
    }

    /// Replaces the secret, and makes the caller the owner. The old secret is no longer valid.
    ///
    /// # Errors
    /// As [`Hooks::update`].
    pub async fn rotate(&self, caller: &Caller, id: HookId) -> Result<HookWithSecret> {
        let known = self.find_to_change(caller, id).await?;
        let (secret, sealed) = self.new_secret(known.tenant_id)?;
        let changed_at = self.clock.now().max(known.changed_at.plus_ms(1));
        let owner_id = caller.principal.id;
        let row = HookRecord { owner_id, changed_at, ..known.clone().into() };
        let hook = self.store_change(caller, "hook.rotate", sealed, row, known).await?;
        Ok(HookWithSecret { hook, secret })
    }

    /// Deletes a hook with its deliveries. Its jobs stay.
    ///
    /// # Errors
    /// 403 if another principal owns it and the caller lacks `commands:manage`.
    pub async fn delete(&self, caller: &Caller, id: HookId) -> Result<()> {
        self.find_to_change(caller, id).await?;
        let audit = caller.audit("hook.delete", subject(id), &json!({}), self.clock.now());
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.delete_hook(id, audit).await? {
            true => Ok(()),
            false => Err(UNKNOWN),
        }
    }

    /// One page of a hook's deliveries, newest first.
    pub async fn deliveries(
        &self,
        caller: &Caller,
        id: HookId,
        page: PageRequest,
    ) -> Result<Page<HookDeliveryRecord>> {
        caller.require(Scope::SchedulesRead)?;
        self.find(caller, id).await?;
        let rows = self.store.tenant(caller.principal.tenant_id).hook_deliveries(id, page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(HookDeliveryRecord::from))
    }

    async fn store_change(
        &self,
        caller: &Caller,
        action: &str,
        sealed: Vec<u8>,
        row: HookRecord,
        known: hook::Model,
    ) -> Result<HookSnapshot> {
        let audit = caller.audit(action, subject(row.id), &detail(&row), row.changed_at);
        let tenant = self.store.tenant(row.tenant_id);
        let new = hook::Model::of(row.clone(), sealed);
        match tenant.change_hook(new, known.changed_at, audit).await {
            Err(StoreError::Refused(_)) => Err(name_taken()),
            Ok(true) => Ok(row.into()),
            Ok(false) => Err(ServiceError::Conflict {
                code: "hook_changed",
                detail: "the hook was changed at the same time; read it and try again".into(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds the names of the owners.
    async fn add_names(&self, caller: &Caller, hooks: &mut [HookSnapshot]) -> Result<()> {
        let owners = hooks.iter().map(|hook| hook.row.owner_id).collect();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let names = tenant.principal_names(owners).await?;
        for hook in hooks {
            hook.owner_name = names.get(&hook.row.owner_id).cloned();
        }
        Ok(())
    }

    /// Checks the parameters of a script of the library; those from the body are known later.
    async fn check_script(&self, caller: &Caller, row: &HookRecord) -> Result<()> {
        let fields: Fields = serde_json::from_str(&row.parameters).unwrap_or_default();
        let open: Vec<String> = fields.into_keys().collect();
        self.jobs.check_script(caller, template(row)?.request(), &open).await
    }

    async fn find(&self, caller: &Caller, id: HookId) -> Result<hook::Model> {
        self.store.tenant(caller.principal.tenant_id).hook(id).await?.ok_or(UNKNOWN)
    }

    /// The hook, if the caller may change it. A key with limits may change those of others whose job it
    /// could run itself.
    async fn find_to_change(&self, caller: &Caller, id: HookId) -> Result<hook::Model> {
        caller.require(Scope::SchedulesWrite)?;
        caller.require_own_control()?;
        let row = self.find(caller, id).await?;
        caller.require_control(row.owner_id)?;
        if row.owner_id != caller.principal.id {
            let record = row.clone().into();
            self.jobs.check_reach(caller, template(&record)?.request()).await?;
        }
        Ok(row)
    }

    fn new_secret(&self, tenant_id: TenantId) -> Result<(Zeroizing<String>, Vec<u8>)> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        SystemRandom::new().fill(&mut *secret).map_err(|_| NoRandomness)?;
        let sealed = self.secret_box.seal(tenant_id, FIELD, &*secret)?;
        Ok((secret_text(&*secret), sealed))
    }
}

/// The job of a hook.
///
/// # Errors
/// 409 if a newer version stored it, and this one does not know its fields.
fn template(row: &HookRecord) -> Result<JobTemplate> {
    serde_json::from_str(&row.job).map_err(|_| ServiceError::Conflict {
        code: "hook_changed",
        detail: "the job of this hook can't be read; set it again".into(),
    })
}

fn name_taken() -> ServiceError {
    ServiceError::Conflict { code: "hook_exists", detail: "a hook has this name already".into() }
}

fn too_many() -> ServiceError {
    ServiceError::Conflict {
        code: "too_many_hooks",
        detail: format!("a tenant has at most {MAX_HOOKS} hooks; delete one first"),
    }
}

fn subject(id: HookId) -> Subject {
    Subject { kind: "hook", id: id.0 }
}

/// What an audit entry records. Parameters of the job may be confidential.
fn detail(row: &HookRecord) -> Value {
    json!({"name": row.name, "authentication": row.authentication, "enabled": row.is_enabled,
        "owner_id": row.owner_id})
}
