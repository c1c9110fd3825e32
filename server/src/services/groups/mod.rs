//! Groups of agents that are to be of one version: as people see and change them. How a wish is
//! carried out is in [`carrying`].

mod asking;
mod carrying;

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_protocol::release::Version;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::carrying::Turn;
use super::Settings;
use super::caller::{Caller, Subject};
use super::error::{Result, ServiceError};
use super::group_book::GroupBook;
use super::release_catalog::ReleaseCatalog;
use crate::domain::group::{GroupState, Pace, UpdateState};
use crate::domain::ids::{AgentId, GroupId};
use crate::domain::name::check_name;
use crate::domain::page::{Page, PageRequest};
use crate::domain::principal::Scope;
use crate::domain::rollout::amount::Amount;
use crate::domain::target::{Target, TargetSpec};
use crate::domain::time::Clock;
use crate::hub::Hub;
use crate::store::entities::{agent_update, group};
use crate::store::queries::GroupChange;
use crate::store::{Store, StoreError};

/// Groups of a tenant.
const MAX_GROUPS: usize = 100;
/// Agents of a wave.
const MAX_WAVE: u64 = 10_000;
/// The longest that agents have to be connected before the next wave: 24 h.
const MAX_HEALTHY_MS: u64 = 24 * 3_600_000;
/// Agents that a view shows of each kind.
const MAX_SHOWN: usize = 50;
const UNKNOWN: ServiceError = ServiceError::NotFound("group");

/// Use cases of groups.
#[derive(Clone, Debug)]
pub struct Groups {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) catalog: ReleaseCatalog,
    pub(super) book: GroupBook,
    /// Some group has changed.
    pub(super) changed: Arc<Notify>,
}

/// What a caller says of a group; `None` stays, or is the default of a new one.
#[derive(Debug, Clone, Default)]
pub struct GroupRequest {
    pub name: Option<String>,
    pub target: Option<TargetSpec>,
    /// `Some(None)` wants none.
    pub wanted_version: Option<Option<String>>,
    pub wave_size: Option<Value>,
    pub max_failures: Option<Value>,
    pub healthy_for_ms: Option<u64>,
}

/// A group and where its agents are.
#[derive(Debug, Clone)]
pub struct GroupNow {
    pub row: group::Model,
    pub agents: usize,
    /// Of the wanted version.
    pub there: usize,
    pub updating: usize,
    /// To be asked again later.
    pub pending: usize,
    pub failed: usize,
    /// The first 50 that failed or wait.
    pub troubles: Vec<agent_update::Model>,
    /// The first 50 that it means and that belong to an older group.
    pub elsewhere: Vec<AgentId>,
}

impl Groups {
    /// Makes a group.
    ///
    /// # Errors
    /// 422 names the field; 409 `group_exists`, `no_release`.
    pub async fn create(&self, caller: &Caller, request: GroupRequest) -> Result<GroupNow> {
        require(caller)?;
        let now = self.clock.now();
        let missing = |field: &str| ServiceError::invalid_field(field, "is missing");
        if request.name.is_none() {
            return Err(missing("name"));
        }
        if request.target.is_none() {
            return Err(missing("target"));
        }
        let blank = group::Model {
            id: GroupId::new(),
            tenant_id: caller.principal.tenant_id,
            name: String::new(),
            target: String::new(),
            wanted_version: None,
            wave_size: json!(1).to_string(),
            max_failures: json!(0).to_string(),
            healthy_for_ms: 0,
            state: GroupState::Active,
            halt_reason: None,
            wish: 1,
            wave: 0,
            wanted_by: caller.principal.id,
            created_at: now,
            changed_at: now,
        };
        let row = self.changed_by(caller, blank, request).await?;
        let audit = caller.audit("group.create", subject(row.id), &detail(&row), now);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.create_group(row.clone(), MAX_GROUPS, audit).await {
            Err(StoreError::Refused(_)) => return Err(taken()),
            stored => stored?,
        }
        self.changed.notify_one();
        self.now(row).await
    }

    /// One page of groups, oldest first.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<group::Model>> {
        caller.require(Scope::AgentsRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).groups(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0))
    }

    /// One group, and where its agents are.
    pub async fn get(&self, caller: &Caller, id: GroupId) -> Result<GroupNow> {
        caller.require(Scope::AgentsRead)?;
        let row = self.find(caller, id).await?;
        self.now(row).await
    }

    /// Changes a group. Another wanted version begins anew, whatever came of the one before.
    pub async fn update(
        &self,
        caller: &Caller,
        id: GroupId,
        request: GroupRequest,
    ) -> Result<GroupNow> {
        require(caller)?;
        let known = self.find(caller, id).await?;
        let mut row = self.changed_by(caller, known.clone(), request).await?;
        let is_new_wish = row.wanted_version != known.wanted_version;
        if is_new_wish {
            row.wish += 1;
            row.wave = 0;
            row.state = GroupState::Active;
            row.halt_reason = None;
            row.wanted_by = caller.principal.id;
        }
        self.store_change(caller, "group.update", known, row, (is_new_wish, false)).await
    }

    /// Asks no more agents for now; those that were asked go on.
    pub async fn pause(&self, caller: &Caller, id: GroupId) -> Result<GroupNow> {
        require(caller)?;
        let known = self.find(caller, id).await?;
        let row = group::Model { state: GroupState::Paused, ..known.clone() };
        self.store_change(caller, "group.pause", known, row, (false, false)).await
    }

    /// Goes on after a pause or a halt: agents that failed are asked again.
    pub async fn resume(&self, caller: &Caller, id: GroupId) -> Result<GroupNow> {
        require(caller)?;
        let known = self.find(caller, id).await?;
        let row = group::Model {
            state: GroupState::Active,
            halt_reason: None,
            // The health of the wave before is waived.
            wave: known.wave + 1,
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
        let groups = self.store.tenant(caller.principal.tenant_id).all_groups().await?;
        groups.into_iter().find(|row| row.id == id).ok_or(UNKNOWN)
    }

    async fn store_change(
        &self,
        caller: &Caller,
        action: &str,
        known: group::Model,
        row: group::Model,
        (forgets_updates, retries_failed): (bool, bool),
    ) -> Result<GroupNow> {
        // Two changes within a millisecond are two.
        let now = self.clock.now().max(known.changed_at.plus_ms(1));
        let row = group::Model { changed_at: now, ..row };
        let audit = caller.audit(action, subject(row.id), &detail(&row), now);
        let was_changed_at = known.changed_at;
        let change = GroupChange { row, was_changed_at, forgets_updates, retries_failed };
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = match tenant.change_group(change, audit).await {
            Err(StoreError::Refused(_)) => return Err(taken()),
            stored => stored?.ok_or_else(|| ServiceError::Conflict {
                code: "group_changed",
                detail: "the group has changed meanwhile; look at it and try again".into(),
            })?,
        };
        self.changed.notify_one();
        self.now(row).await
    }

    async fn changed_by(
        &self,
        caller: &Caller,
        row: group::Model,
        request: GroupRequest,
    ) -> Result<group::Model> {
        let mut row = row;
        if let Some(name) = request.name {
            check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name = name;
        }
        if let Some(spec) = request.target {
            row.target = json!(spec).to_string();
            Target::try_from(spec)?;
        }
        let amount = |field: &'static str, value: &Value, least| {
            Amount::read(value, least, MAX_WAVE)
                .map_err(|problem| ServiceError::invalid_field(field, &problem.to_string()))
        };
        if let Some(value) = request.wave_size {
            amount("wave_size", &value, 1)?;
            row.wave_size = value.to_string();
        }
        if let Some(value) = request.max_failures {
            amount("max_failures", &value, 0)?;
            row.max_failures = value.to_string();
        }
        if let Some(ms) = request.healthy_for_ms {
            if ms > MAX_HEALTHY_MS {
                return Err(ServiceError::invalid_field(
                    "healthy_for_ms",
                    "must be at most 86400000",
                ));
            }
            row.healthy_for_ms = ms.cast_signed();
        }
        if let Some(wanted) = request.wanted_version {
            if let Some(version) = &wanted {
                self.check_wanted(version).await?;
            }
            row.wanted_by = caller.principal.id;
            row.wanted_version = wanted;
        }
        Ok(row)
    }

    async fn check_wanted(&self, version: &str) -> Result<()> {
        let version: Version = version.parse().map_err(|_| {
            ServiceError::invalid_field("wanted_version", "must be a version such as 0.2.0")
        })?;
        match self.catalog.find(&version).await? {
            Some(_) => Ok(()),
            None => Err(ServiceError::Conflict {
                code: "no_release",
                detail: format!(
                    "release {version} is not published here, or withdrawn; publish it first"
                ),
            }),
        }
    }

    async fn now(&self, row: group::Model) -> Result<GroupNow> {
        let tenant = self.store.tenant(row.tenant_id);
        let memberships =
            self.book.memberships(row.tenant_id, |id| self.hub.is_connected(id)).await?;
        let membership = memberships.get(&row.id).cloned().unwrap_or_default();
        let mut updates = tenant.group_updates(row.id).await?;
        let ids: BTreeSet<AgentId> = membership.members.iter().map(|facts| facts.id).collect();
        updates.retain(|update| update.wish == row.wish && ids.contains(&update.agent_id));
        let count = |state| updates.iter().filter(|update| update.state == state).count();
        let is_there =
            |version: &str| row.wanted_version.as_deref().is_some_and(|wanted| wanted == version);
        let mut now = GroupNow {
            agents: membership.members.len(),
            there: membership.members.iter().filter(|facts| is_there(&facts.version)).count(),
            updating: count(UpdateState::Updating),
            pending: count(UpdateState::Pending),
            failed: count(UpdateState::Failed),
            troubles: Vec::new(),
            elsewhere: membership.elsewhere,
            row,
        };
        updates.retain(|update| matches!(update.state, UpdateState::Failed | UpdateState::Pending));
        updates.truncate(MAX_SHOWN);
        now.troubles = updates;
        now.elsewhere.truncate(MAX_SHOWN);
        Ok(now)
    }
}

/// It changes agents, and sends them commands.
fn require(caller: &Caller) -> Result<()> {
    caller.require(Scope::AgentsWrite)?;
    caller.require(Scope::CommandsRun)
}

/// How a group goes about it; it was read when it was stored.
fn pace(row: &group::Model) -> Pace {
    let amount = |text: &str, least, default| {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        Amount::read(&value, least, MAX_WAVE).unwrap_or(default)
    };
    Pace {
        wave_size: amount(&row.wave_size, 1, Amount::Count(1)),
        max_failures: amount(&row.max_failures, 0, Amount::Count(0)),
        healthy_for_ms: row.healthy_for_ms.unsigned_abs(),
    }
}

fn taken() -> ServiceError {
    ServiceError::Conflict {
        code: "group_exists",
        detail: format!("a group has this name, or there are {MAX_GROUPS}; use another name"),
    }
}

fn subject(id: GroupId) -> Subject {
    Subject { kind: "group", id: id.0 }
}

fn detail(row: &group::Model) -> Value {
    json!({"name": row.name, "wanted_version": row.wanted_version, "state": row.state})
}
