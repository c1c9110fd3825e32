//! Changes of a schedule by people. Each first decides about all due times that have come, so that no
//! change bypasses the policy for missed fires.

use serde_json::json;

use super::request::template;
use super::{ScheduleRequest, ScheduleSnapshot, Schedules, UNKNOWN};
use super::{detail, is_active, name_taken, never_due, subject};
use crate::domain::access::principal::Scope;
use crate::domain::ids::{FireId, JobId, ScheduleId};
use crate::domain::schedules::fire::{FireReason, FireState, ScheduleState};
use crate::domain::schedules::records::ScheduleRecord;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::commands::jobs::{FireResult, JobRequest};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::schedules::fire;
use crate::store::queries::{FireDecision, ScheduleChange};
use crate::store::{FireStart, StoreError};

/// How often a change is tried while the schedule fires.
const ATTEMPTS: usize = 5;
/// A requested fire without a job after this time is one whose server stopped.
const ABANDONED_AFTER_MS: u64 = 60_000;

impl Schedules {
    /// Changes a schedule. The caller becomes its owner, unless only the name changes.
    ///
    /// # Errors
    /// As [`Schedules::create`]; 403 if another principal owns it and the caller lacks
    /// `commands:manage`; 409 `schedule_changed`.
    pub async fn update(
        &self,
        caller: &Caller,
        id: ScheduleId,
        request: ScheduleRequest,
    ) -> Result<ScheduleSnapshot> {
        if let Some(job) = &request.job {
            caller.require(Scope::CommandsRun)?;
            self.jobs.check_reach(caller, job.request()).await?;
        }
        if request.job.is_some() || request.secret_parameters.is_some() {
            let known = self.find_to_change(caller, id).await?;
            let job = request.job.clone().map_or_else(|| template(&known), Ok)?.request();
            let job = match &request.secret_parameters {
                Some(given) => JobRequest { secret_parameters: given.clone(), ..job },
                None => self.complete(&known, job)?,
            };
            self.jobs.check_script(caller, job, &[]).await?;
        }
        let change = |row: ScheduleRecord, now| {
            self.with_changes(caller, row, request.clone(), now).map(Some)
        };
        self.change(caller, id, "schedule.update", change).await
    }

    /// Enables a schedule that is disabled or stopped. If its owner is not valid any more, the caller
    /// becomes its owner. Times that passed meanwhile are not due any more. Repeatable.
    ///
    /// # Errors
    /// 409 `schedule_ended` if it is not due again.
    pub async fn enable(&self, caller: &Caller, id: ScheduleId) -> Result<ScheduleSnapshot> {
        caller.require(Scope::CommandsRun)?;
        let known = self.find_to_change(caller, id).await?;
        // Otherwise a job that its owner may not run would run with the rights of the caller.
        let keeps_owner = self.owner(&known, self.clock.now()).await?.is_some();
        let change = |row: ScheduleRecord, now| {
            if is_active(&row) {
                return Ok(None);
            }
            self.jobs.check_template(caller, template(&row)?.request())?;
            let next_due_at = row.due_times()?.next_after(now);
            if next_due_at.is_none() {
                return Err(never_due());
            }
            Ok(Some(ScheduleRecord {
                state: ScheduleState::Active,
                stop_reason: None,
                owner_id: if keeps_owner { row.owner_id } else { caller.principal.id },
                handled_until: now,
                next_due_at,
                ..row
            }))
        };
        self.change(caller, id, "schedule.enable", change).await
    }

    /// Disables a schedule. Fires that have no job yet are skipped; jobs continue. Repeatable.
    pub async fn disable(&self, caller: &Caller, id: ScheduleId) -> Result<ScheduleSnapshot> {
        let change = |row: ScheduleRecord, _| {
            let is_disabled = matches!(row.state, ScheduleState::Disabled | ScheduleState::Ended);
            Ok((!is_disabled).then_some(ScheduleRecord {
                state: ScheduleState::Disabled,
                stop_reason: None,
                next_due_at: None,
                ..row
            }))
        };
        self.change(caller, id, "schedule.disable", change).await
    }

    /// Submits the job of a schedule now, with the rights of the caller, in any state of the schedule,
    /// even while other jobs of it run. `is_forced`: main of a script with a trigger runs without the trigger.
    ///
    /// # Errors
    /// As the submission of a job.
    pub async fn run(
        &self,
        caller: &Caller,
        id: ScheduleId,
        idempotency_key: Option<String>,
        calendar_override: Option<String>,
        is_forced: bool,
    ) -> Result<JobId> {
        let row = self.find_to_change(caller, id).await?;
        let request = self.complete(&row, template(&row)?.request())?;
        self.jobs.check_template(caller, request.clone())?;
        let now = self.clock.now();
        let manual = fire::Model {
            id: FireId::new(),
            tenant_id: row.tenant_id,
            schedule_id: id,
            due_at: now,
            planned_at: now,
            is_manual: true,
            is_missed: false,
            state: FireState::Pending,
            reason: None,
            detail: None,
            job_id: None,
            fired_at: None,
            recorded_at: now,
            omitted_before: 0,
            look_at: Some(now.plus_ms(ABANDONED_AFTER_MS)),
        };
        let audit = caller.audit("schedule.run", subject(id), &json!({}), now);
        let tenant = self.store.tenant(row.tenant_id);
        let manual = tenant.record_manual_fire(manual, audit).await?.ok_or(UNKNOWN)?;
        let start = FireStart {
            fire_id: manual.id,
            schedule_id: id,
            is_manual: true,
            allows_overlap: true,
            is_forced,
        };
        let request = JobRequest { idempotency_key, calendar_override, ..request };
        let system = self.store.system();
        match self.jobs.submit_fire(caller, request, start).await {
            Ok(FireResult::Submitted(job_id)) => {
                // Still open only if the request was repeated, and its first fire has the job.
                let skip = FireDecision::Skip { reason: FireReason::Replaced, detail: None };
                system.decide_fire(manual.id, skip).await?;
                Ok(job_id)
            }
            Ok(FireResult::NotOpen | FireResult::Overlap) => Err(UNKNOWN),
            Err(refusal) => {
                let refuse = FireDecision::Refuse { detail: refusal.to_string() };
                system.decide_fire(manual.id, refuse).await?;
                Err(refusal)
            }
        }
    }

    /// Skips due times before an instant, each with a record; `None` ends that. Repeatable.
    ///
    /// # Errors
    /// 409 `schedule_changed`; 422 if the instant has passed.
    pub async fn snooze(
        &self,
        caller: &Caller,
        id: ScheduleId,
        until: Option<Timestamp>,
    ) -> Result<ScheduleSnapshot> {
        if until.is_some_and(|until| until <= self.clock.now()) {
            return Err(ServiceError::invalid_field("until", "must be in the future"));
        }
        let change =
            |row: ScheduleRecord, _| Ok(Some(ScheduleRecord { snoozed_until: until, ..row }));
        self.change(caller, id, "schedule.snooze", change).await
    }

    /// Applies a change to what is stored; `None` changes nothing.
    async fn change(
        &self,
        caller: &Caller,
        id: ScheduleId,
        action: &str,
        change: impl Fn(ScheduleRecord, Timestamp) -> Result<Option<ScheduleRecord>>,
    ) -> Result<ScheduleSnapshot> {
        for _ in 0..ATTEMPTS {
            let mut known = self.find_to_change(caller, id).await?;
            let now = self.clock.now();
            if known.next_due_at.is_some_and(|due_at| due_at <= now) {
                self.record(vec![known], now).await?;
                known = self.find(caller, id).await?;
            }
            let was = (known.changed_at, known.handled_until);
            let closes_fires = is_active(&known);
            // Two changes within one millisecond must differ.
            let changed_at = now.max(known.changed_at.plus_ms(1));
            let Some(row) = change(known.clone(), now)? else { return Ok(known.into()) };
            let row = ScheduleRecord { changed_at, ..row };
            if row.owner_id == caller.principal.id && row.state != ScheduleState::Disabled {
                self.jobs.check_reach(caller, template(&row)?.request()).await?;
            }
            let closes_fires = closes_fires && row.state == ScheduleState::Disabled;
            let audit = caller.audit(action, subject(id), &detail(&row), now);
            let change = ScheduleChange { row: row.into(), was, closes_fires };
            let tenant = self.store.tenant(caller.principal.tenant_id);
            match tenant.change_schedule(change, audit).await {
                Err(StoreError::Refused(_)) => return Err(name_taken()),
                stored => {
                    if let Some(row) = stored? {
                        self.changed.notify_one();
                        return Ok(ScheduleRecord::from(row).into());
                    }
                }
            }
        }
        Err(ServiceError::Conflict {
            code: "schedule_changed",
            detail: "the schedule was changed at the same time; read it and try again".into(),
        })
    }
}
