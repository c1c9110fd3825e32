//! Groups of agents that follow one version: use cases of the API. [`reconciliation`] rolls the
//! version out.

mod reconciliation;
mod request;
mod update_attempts;
mod view;
#[cfg(test)]
mod wave_tests;
mod waves;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::reconciliation::ReconcileOutcome;
pub use self::request::GroupRequest;
use self::request::rollout_policy;
use self::view::is_compatible;
pub use self::view::{CohortRecord, GroupSnapshot};
use super::catalog::ReleaseCatalog;
use crate::domain::access::principal::Scope;
use crate::domain::commands::ladder::Confirmation;
use crate::domain::ids::GroupId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::releases::group::GroupState;
use crate::domain::releases::records::GroupRecord;
use crate::domain::time::Clock;
use crate::hub::Hub;
use crate::services::Settings;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::{WorkGuard, require_unlimited};
use crate::services::error::{Result, ServiceError};
use crate::services::fleet::group_membership::GroupMembership;
use crate::services::fleet::presence::Presence;
use crate::store::entities::releases::group;
use crate::store::queries::GroupChange;
use crate::store::{Store, StoreError};

/// Most groups of one tenant.
const MAX_GROUPS: usize = 100;
const UNKNOWN: ServiceError = ServiceError::NotFound("group");

/// Use cases of groups.
#[derive(Clone, Debug)]
pub struct Groups {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    pub(in crate::services) catalog: ReleaseCatalog,
    pub(in crate::services) membership: GroupMembership,
    pub(in crate::services) presence: Presence,
    pub(in crate::services) guard: WorkGuard,
    /// Notified when a person changed a group.
    pub(in crate::services) changed: Arc<Notify>,
}

impl Groups {
    /// Creates a group.
    ///
    /// # Errors
    /// 422 names the field; 409 `group_exists`, `no_release`.
    pub async fn create(&self, caller: &Caller, request: GroupRequest) -> Result<GroupSnapshot> {
        require(caller)?;
        let now = self.clock.now();
        if request.name.is_none() {
            return Err(ServiceError::required("name"));
        }
        if request.target.is_none() {
            return Err(ServiceError::required("target"));
        }
        let blank = group::Model {
            id: GroupId::new(),
            tenant_id: caller.principal.tenant_id,
            name: String::new(),
            target: String::new(),
            desired_version: None,
            wave_size: json!(1).to_string(),
            max_failures: json!(0).to_string(),
            healthy_for_ms: 0,
            state: GroupState::Active,
            halt_reason: None,
            generation: 1,
            wave: 0,
            healthy_wave: 0,
            requested_by: caller.principal.id,
            created_at: now,
            changed_at: now,
        };
        let row = self.with_changes(caller, blank, request).await?;
        let audit = caller.audit("group.create", subject(row.id), &detail(&row), now);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.create_group(row.clone(), MAX_GROUPS, audit).await {
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            stored => stored?,
        }
        self.changed.notify_one();
        self.snapshot(row).await
    }

    /// One page of groups, oldest first.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<GroupRecord>> {
        caller.require(Scope::AgentsRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).groups(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(GroupRecord::from))
    }

    /// One group, and the state of its agents.
    pub async fn get(&self, caller: &Caller, id: GroupId) -> Result<GroupSnapshot> {
        caller.require(Scope::AgentsRead)?;
        let row = self.find(caller, id).await?;
        self.snapshot(row).await
    }

    /// Changes a group. Another desired version starts a new generation with its own first wave.
    pub async fn update(
        &self,
        caller: &Caller,
        id: GroupId,
        request: GroupRequest,
    ) -> Result<GroupSnapshot> {
        require(caller)?;
        let known = self.find(caller, id).await?;
        let mut row = self.with_changes(caller, known.clone(), request).await?;
        let is_new_generation = row.desired_version != known.desired_version;
        if is_new_generation {
            row.generation += 1;
            (row.wave, row.healthy_wave) = (0, 0);
            row.state = GroupState::Active;
            row.halt_reason = None;
            row.requested_by = caller.principal.id;
        }
        self.store_change(caller, "group.update", known, row, (is_new_generation, false)).await
    }

    /// Requests no more updates until the group is resumed; updates under way continue. Repeatable.
    pub async fn pause(&self, caller: &Caller, id: GroupId) -> Result<GroupSnapshot> {
        require(caller)?;
        let known = self.find(caller, id).await?;
        if known.state == GroupState::Paused {
            return self.snapshot(known).await;
        }
        let row = group::Model { state: GroupState::Paused, ..known.clone() };
        self.store_change(caller, "group.pause", known, row, (false, false)).await
    }

    /// Continues after a pause or a halt: failed agents are tried again, and the health gate of the
    /// last wave is waived. The caller's key becomes the one that requests the updates. Repeatable:
    /// an active group stays as it is.
    pub async fn resume(&self, caller: &Caller, id: GroupId) -> Result<GroupSnapshot> {
        require(caller)?;
        let known = self.find(caller, id).await?;
        if known.state == GroupState::Active {
            return self.snapshot(known).await;
        }
        self.guard.require_free_life_cycle(caller).await?;
        // Its number was confirmed with the desired version.
        self.check_reach(caller, &known, Some(Confirmation::AtMost(u64::MAX))).await?;
        let row = group::Model {
            state: GroupState::Active,
            halt_reason: None,
            requested_by: caller.principal.id,
            ..known.clone()
        };
        self.store_change(caller, "group.resume", known, row, (false, true)).await
    }

    /// Deletes a group. Its agents stay as they are.
    pub async fn delete(&self, caller: &Caller, id: GroupId) -> Result<()> {
        require(caller)?;
        let audit = caller.audit("group.delete", subject(id), &json!({}), self.clock.now());
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.delete_group(id, audit).await? {
            true => Ok(()),
            false => Err(UNKNOWN),
        }
    }

    async fn find(&self, caller: &Caller, id: GroupId) -> Result<group::Model> {
        self.store.tenant(caller.principal.tenant_id).group(id).await?.ok_or(UNKNOWN)
    }

    async fn store_change(
        &self,
        caller: &Caller,
        action: &str,
        known: group::Model,
        row: group::Model,
        (forgets_updates, retries_failed): (bool, bool),
    ) -> Result<GroupSnapshot> {
        // Two changes within one millisecond must differ.
        let now = self.clock.now().max(known.changed_at.plus_ms(1));
        let row = group::Model { changed_at: now, ..row };
        let audit = caller.audit(action, subject(row.id), &detail(&row), now);
        let was_changed_at = known.changed_at;
        let change = GroupChange { row, was_changed_at, forgets_updates, retries_failed };
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = match tenant.change_group(change, audit).await {
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            stored => stored?.ok_or_else(|| ServiceError::Conflict {
                code: "group_changed",
                detail: "the group was changed at the same time; read it and try again".into(),
            })?,
        };
        self.changed.notify_one();
        self.snapshot(row).await
    }
}

/// Groups change agents and update them, so both scopes are needed, and no limits.
fn require(caller: &Caller) -> Result<()> {
    caller.require(Scope::AgentsWrite)?;
    caller.require(Scope::AgentsManage)?;
    require_unlimited(caller, "the agents of a group change later")
}

fn name_taken() -> ServiceError {
    ServiceError::Conflict {
        code: "group_exists",
        detail: format!(
            "a group has this name already, or the limit of {MAX_GROUPS} groups is reached"
        ),
    }
}

fn subject(id: GroupId) -> Subject {
    Subject { kind: "group", id: id.0 }
}

fn detail(row: &group::Model) -> Value {
    json!({"name": row.name, "desired_version": row.desired_version, "state": row.state})
}
