//! Calendars: use cases of the API. `services/access/work_guard` asks them before work starts.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::domain::access::principal::Scope;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{CalendarId, ScheduleId, TenantId};
use crate::domain::name::check_name;
use crate::domain::schedules::calendar::{Calendar, CalendarRecord, EntrySpec};
use crate::domain::time::{Clock, Timestamp};
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::WorkGuard;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::TOO_MANY_CALENDARS;
use crate::store::{Store, StoreError};

/// Most calendars of one tenant.
const MAX_CALENDARS: u64 = 100;
const UNKNOWN: ServiceError = ServiceError::NotFound("calendar");

/// Use cases of calendars.
#[derive(Clone, Debug)]
pub struct Calendars {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) guard: WorkGuard,
    /// Notified because a wave of a group may start now.
    pub(in crate::services) group_changes: Arc<Notify>,
}

/// Changes to a calendar. `None` keeps the value, or takes the default in a new calendar.
#[derive(Debug, Clone, Default)]
pub struct CalendarRequest {
    pub name: Option<String>,
    pub time_zone: Option<String>,
    pub entries: Option<Vec<EntrySpec>>,
    /// `Some(None)` removes it.
    pub target: Option<Option<TargetSpec>>,
    pub schedule_ids: Option<Vec<ScheduleId>>,
}

impl Calendars {
    /// Creates a calendar. It holds for work that starts after this returns.
    ///
    /// # Errors
    /// 403; 422 names the field; 409 `calendar_exists` or `too_many_calendars`.
    pub async fn create(
        &self,
        caller: &Caller,
        request: CalendarRequest,
    ) -> Result<CalendarRecord> {
        require_change(caller)?;
        if request.name.is_none() {
            return Err(ServiceError::required("name"));
        }
        if request.entries.is_none() {
            return Err(ServiceError::required("entries"));
        }
        let now = self.clock.now();
        let blank = CalendarRecord {
            id: CalendarId::new(),
            tenant_id: caller.principal.tenant_id,
            name: String::new(),
            time_zone: "UTC".into(),
            entries: "[]".into(),
            target: None,
            schedule_ids: "[]".into(),
            created_by: caller.principal.id,
            created_at: now,
            changed_at: now,
        };
        let row = self.with_changes(blank, request, now).await?;
        let audit = caller.audit("calendar.create", subject(row.id), &detail(&row), now);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.create_calendar(row.clone().into(), MAX_CALENDARS, audit).await {
            Err(StoreError::Refused(TOO_MANY_CALENDARS)) => return Err(too_many()),
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            stored => stored?,
        }
        self.has_changed(row.tenant_id);
        Ok(row)
    }

    /// All calendars, oldest first.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<CalendarRecord>> {
        caller.require(Scope::SchedulesRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).calendars().await?;
        Ok(rows.into_iter().map(CalendarRecord::from).collect())
    }

    /// One calendar.
    pub async fn get(&self, caller: &Caller, id: CalendarId) -> Result<CalendarRecord> {
        caller.require(Scope::SchedulesRead)?;
        self.find(caller, id).await
    }

    /// Changes a calendar.
    ///
    /// # Errors
    /// As [`Calendars::create`]; 409 `calendar_changed`.
    pub async fn update(
        &self,
        caller: &Caller,
        id: CalendarId,
        request: CalendarRequest,
    ) -> Result<CalendarRecord> {
        require_change(caller)?;
        let known = self.find(caller, id).await?;
        let was_changed_at = known.changed_at;
        let now = self.clock.now();
        let row = self.with_changes(known, request, now).await?;
        let audit = caller.audit("calendar.update", subject(id), &detail(&row), now);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.change_calendar(row.clone().into(), was_changed_at, audit).await {
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            Ok(false) => {
                return Err(ServiceError::Conflict {
                    code: "calendar_changed",
                    detail: "the calendar was changed at the same time; read it and try again"
                        .into(),
                });
            }
            stored => stored?,
        };
        self.has_changed(row.tenant_id);
        Ok(row)
    }

    fn has_changed(&self, tenant_id: TenantId) {
        self.guard.forget_rules(tenant_id);
        self.group_changes.notify_one();
    }

    /// Deletes a calendar.
    pub async fn delete(&self, caller: &Caller, id: CalendarId) -> Result<()> {
        require_change(caller)?;
        let audit = caller.audit("calendar.delete", subject(id), &json!({}), self.clock.now());
        let tenant_id = caller.principal.tenant_id;
        match self.store.tenant(tenant_id).delete_calendar(id, audit).await? {
            true => {
                self.has_changed(tenant_id);
                Ok(())
            }
            false => Err(UNKNOWN),
        }
    }

    async fn find(&self, caller: &Caller, id: CalendarId) -> Result<CalendarRecord> {
        let found = self.store.tenant(caller.principal.tenant_id).calendar(id).await?;
        Ok(found.ok_or(UNKNOWN)?.into())
    }

    async fn with_changes(
        &self,
        mut row: CalendarRecord,
        request: CalendarRequest,
        now: Timestamp,
    ) -> Result<CalendarRecord> {
        if let Some(name) = request.name {
            check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name = name;
        }
        row.time_zone = request.time_zone.unwrap_or(row.time_zone);
        if let Some(entries) = request.entries {
            row.entries = json!(entries).to_string();
        }
        if let Some(target) = request.target {
            if let Some(spec) = &target {
                Target::try_from(spec.clone())?;
            }
            row.target = target.map(|spec| json!(spec).to_string());
        }
        if let Some(ids) = request.schedule_ids {
            row.schedule_ids = json!(ids).to_string();
            for id in ids {
                if self.store.tenant(row.tenant_id).schedule(id).await?.is_none() {
                    let problem = "names a schedule that does not exist";
                    return Err(ServiceError::invalid_field("schedule_ids", problem));
                }
            }
        }
        if row.target.is_some() && row.schedule_ids != "[]" {
            let problem = "can't be combined with `schedule_ids`";
            return Err(ServiceError::conflicting("target", "schedule_ids", problem));
        }
        Calendar::new(&row)?;
        row.changed_at = now.max(row.changed_at.plus_ms(1));
        Ok(row)
    }
}

/// Calendars hold back the work of others, so both rights are needed.
fn require_change(caller: &Caller) -> Result<()> {
    caller.require(Scope::SchedulesWrite)?;
    caller.require(Scope::CommandsManage)
}

fn name_taken() -> ServiceError {
    ServiceError::Conflict {
        code: "calendar_exists",
        detail: "a calendar has this name already".into(),
    }
}

fn too_many() -> ServiceError {
    ServiceError::Conflict {
        code: "too_many_calendars",
        detail: format!("a tenant has at most {MAX_CALENDARS} calendars; delete one first"),
    }
}

fn subject(id: CalendarId) -> Subject {
    Subject { kind: "calendar", id: id.0 }
}

fn detail(row: &CalendarRecord) -> Value {
    let entries: Value = serde_json::from_str(&row.entries).unwrap_or_default();
    json!({"name": row.name, "time_zone": row.time_zone, "entry_count": entries.as_array().map_or(0, Vec::len)})
}
