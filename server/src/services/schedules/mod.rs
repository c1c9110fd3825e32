//! Schedules: use cases of the API. [`firing`] starts what is due.

pub mod calendars;
mod changes;
mod firing;
pub mod hooks;
mod owner;
mod preview;
mod request;
pub mod secrets;
mod simulation;
mod starts;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::firing::ScheduleWork;
pub use self::preview::{DEFAULT_COUNT, MAX_COUNT, RulePreview};
use self::request::template;
pub use self::request::{MAX_LATE_LIMIT_MS, ScheduleRequest};
use crate::domain::access::principal::Scope;
use crate::domain::ids::ScheduleId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::schedules::fire::ScheduleState;
use crate::domain::schedules::records::{FireRecord, ScheduleRecord};
use crate::domain::schedules::trigger_call::TriggerStateRecord;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::services::access::caller::{Caller, Subject};
use crate::services::commands::jobs::{JobRequest, Jobs};
use crate::services::error::{Result, ServiceError};
use crate::store::queries::TOO_MANY_SCHEDULES;
use crate::store::{Store, StoreError};

/// Most schedules of one tenant.
const MAX_SCHEDULES: u64 = 10_000;
const UNKNOWN: ServiceError = ServiceError::NotFound("schedule");

/// Use cases of schedules.
#[derive(Clone, Debug)]
pub struct Schedules {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) jobs: Jobs,
    pub(in crate::services) secret_box: SecretBox,
    /// Notified when a person changed a schedule.
    pub(in crate::services) changed: Arc<Notify>,
}

/// A schedule with its rule as a sentence.
#[derive(Debug, Clone)]
pub struct ScheduleSnapshot {
    pub row: ScheduleRecord,
    pub sentence: String,
    /// Current name of its owner, where it was read.
    pub owner_name: Option<String>,
}

/// What a schedule keeps for one agent.
#[derive(Debug, Clone)]
pub struct TriggerStateSnapshot {
    pub row: TriggerStateRecord,
    pub agent_name: Option<String>,
}

impl From<ScheduleRecord> for ScheduleSnapshot {
    fn from(row: ScheduleRecord) -> Self {
        let sentence = row.due_times().map(|due_times| due_times.sentence());
        Self { sentence: sentence.unwrap_or_default(), row, owner_name: None }
    }
}

impl Schedules {
    /// Creates a schedule. The caller becomes its owner.
    ///
    /// # Errors
    /// 403 if the caller may not submit the job itself; 422 names the field; 409 `schedule_exists` or
    /// `too_many_schedules`.
    pub async fn create(
        &self,
        caller: &Caller,
        request: ScheduleRequest,
    ) -> Result<ScheduleSnapshot> {
        caller.require(Scope::SchedulesWrite)?;
        let secrets = request.secret_parameters.clone().flatten();
        let row = self.new_row(caller, request)?;
        let job = JobRequest { secret_parameters: secrets, ..template(&row)?.request() };
        self.jobs.check_script(caller, job, &[]).await?;
        self.jobs.check_reach(caller, template(&row)?.request()).await?;
        let audit = caller.audit("schedule.create", subject(row.id), &detail(&row), row.created_at);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.create_schedule(row.clone().into(), MAX_SCHEDULES, audit).await {
            Err(StoreError::Refused(TOO_MANY_SCHEDULES)) => return Err(too_many()),
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            stored => stored??,
        }
        self.changed.notify_one();
        Ok(row.into())
    }

    /// One page of schedules, oldest first.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<ScheduleSnapshot>> {
        caller.require(Scope::SchedulesRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).schedules(page).await?;
        let snapshot = |row| ScheduleSnapshot::from(ScheduleRecord::from(row));
        let mut page = Page::of(rows, page, |row| row.id.0).map(snapshot);
        self.add_names(caller, &mut page.items).await?;
        Ok(page)
    }

    /// One schedule.
    pub async fn get(&self, caller: &Caller, id: ScheduleId) -> Result<ScheduleSnapshot> {
        caller.require(Scope::SchedulesRead)?;
        let mut found = self.find(caller, id).await?.into();
        self.add_names(caller, std::slice::from_mut(&mut found)).await?;
        Ok(found)
    }

    /// Adds the names of the owners.
    async fn add_names(&self, caller: &Caller, schedules: &mut [ScheduleSnapshot]) -> Result<()> {
        let owners = schedules.iter().map(|schedule| schedule.row.owner_id).collect();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let names = tenant.principal_names(owners).await?;
        for schedule in schedules {
            schedule.owner_name = names.get(&schedule.row.owner_id).cloned();
        }
        Ok(())
    }

    /// One page of a schedule's fires, newest first.
    pub async fn fires(
        &self,
        caller: &Caller,
        id: ScheduleId,
        page: PageRequest,
    ) -> Result<Page<FireRecord>> {
        caller.require(Scope::SchedulesRead)?;
        self.find(caller, id).await?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.fires(id, page).await?;
        let ends = tenant.job_ends(rows.iter().filter_map(|row| row.job_id).collect()).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(FireRecord::from).map(|fire| FireRecord {
            ended_at: fire.job_id.and_then(|id| ends.get(&id).copied()),
            ..fire
        }))
    }

    /// One page of what the schedule of a script with a trigger keeps for each agent, oldest first.
    pub async fn trigger_states(
        &self,
        caller: &Caller,
        id: ScheduleId,
        page: PageRequest,
    ) -> Result<(ScheduleRecord, Page<TriggerStateSnapshot>)> {
        caller.require(Scope::SchedulesRead)?;
        let schedule = self.find(caller, id).await?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.trigger_states(id, page).await?;
        let names = tenant.agent_names(rows.iter().map(|row| row.agent_id).collect()).await?;
        let snapshot = |row: TriggerStateRecord| {
            let agent_name = names.get(&row.agent_id).cloned();
            TriggerStateSnapshot { row, agent_name }
        };
        Ok((schedule, Page::of(rows, page, |row| row.id.0).map(snapshot)))
    }

    /// Deletes a schedule with its history. Its jobs stay.
    ///
    /// # Errors
    /// 403 if another principal owns it and the caller lacks `commands:manage`.
    pub async fn delete(&self, caller: &Caller, id: ScheduleId) -> Result<()> {
        self.find_to_change(caller, id).await?;
        let audit = caller.audit("schedule.delete", subject(id), &json!({}), self.clock.now());
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.delete_schedule(id, audit).await? {
            true => Ok(()),
            false => Err(UNKNOWN),
        }
    }

    async fn find(&self, caller: &Caller, id: ScheduleId) -> Result<ScheduleRecord> {
        let found = self.store.tenant(caller.principal.tenant_id).schedule(id).await?;
        Ok(found.ok_or(UNKNOWN)?.into())
    }

    /// The schedule, if the caller may change it. A key with limits may change those of others whose job
    /// it could run itself.
    async fn find_to_change(&self, caller: &Caller, id: ScheduleId) -> Result<ScheduleRecord> {
        caller.require(Scope::SchedulesWrite)?;
        caller.require_own_control()?;
        let row = self.find(caller, id).await?;
        caller.require_control(row.owner_id)?;
        // Its own schedule can always be stopped, also after its key got limits.
        if row.owner_id != caller.principal.id {
            self.jobs.check_reach(caller, template(&row)?.request()).await?;
        }
        Ok(row)
    }
}

fn name_taken() -> ServiceError {
    ServiceError::Conflict {
        code: "schedule_exists",
        detail: "a schedule has this name already".into(),
    }
}

fn too_many() -> ServiceError {
    ServiceError::Conflict {
        code: "too_many_schedules",
        detail: format!("a tenant has at most {MAX_SCHEDULES} schedules; delete one first"),
    }
}

fn never_due() -> ServiceError {
    ServiceError::Conflict {
        code: "schedule_ended",
        detail: "the schedule is not due again; change its rule or its end".into(),
    }
}

fn subject(id: ScheduleId) -> Subject {
    Subject { kind: "schedule", id: id.0 }
}

/// What an audit entry records. Parameters of the job may be confidential.
fn detail(row: &ScheduleRecord) -> Value {
    let rule: Value = serde_json::from_str(&row.rule).unwrap_or_default();
    json!({"name": row.name, "rule": rule, "state": row.state, "owner_id": row.owner_id})
}

/// True for schedules that may have due times.
fn is_active(row: &ScheduleRecord) -> bool {
    row.state == ScheduleState::Active
}
