//! Requests that create or change a schedule: validates them and writes them into the record.

use serde_json::{Value, json};

use super::{Schedules, never_due};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::ScheduleId;
use crate::domain::name::check_name;
use crate::domain::schedules::fire::{MAX_JITTER_MS, ScheduleState};
use crate::domain::schedules::policy::{MAX_CATCH_UP, MissedPolicy, OverlapPolicy};
use crate::domain::schedules::records::{JobTemplate, ScheduleRecord};
use crate::domain::schedules::rule::RuleSpec;
use crate::domain::schedules::rule_error::RuleError;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::commands::jobs::JobRequest;
use crate::services::commands::preflight::OnMismatch;
use crate::services::error::{Result, ServiceError};
use crate::services::integrations::webhooks::check_url;

/// Default of `late_limit_ms`: a day.
const DEFAULT_LATE_LIMIT_MS: i64 = 86_400_000;
/// Longest `late_limit_ms`: 366 days.
pub const MAX_LATE_LIMIT_MS: u64 = 366 * 86_400_000;
/// Default of `max_catch_up`.
const DEFAULT_CATCH_UP: i32 = 10;

/// Changes to a schedule. `None` keeps the value, or takes the default in a new schedule.
#[derive(Debug, Clone, Default)]
pub struct ScheduleRequest {
    pub name: Option<String>,
    pub rule: Option<RuleSpec>,
    /// `Some(None)` removes it.
    pub starts_at: Option<Option<Timestamp>>,
    /// `Some(None)` removes it.
    pub ends_at: Option<Option<Timestamp>>,
    pub job: Option<JobTemplate>,
    pub missed: Option<MissedPolicy>,
    pub max_catch_up: Option<u32>,
    pub late_limit_ms: Option<u64>,
    pub overlap: Option<OverlapPolicy>,
    pub jitter_ms: Option<u64>,
    /// Where the result of each job is sent. `Some(None)` removes it.
    pub webhook_url: Option<Option<String>>,
    /// Secret parameters of the jobs, an object of texts. `Some(None)` removes them.
    pub secret_parameters: Option<Option<Value>>,
}

impl ScheduleRequest {
    fn changes_more_than_the_name(&self) -> bool {
        self.rule.is_some()
            || self.starts_at.is_some()
            || self.ends_at.is_some()
            || self.job.is_some()
            || self.missed.is_some()
            || self.max_catch_up.is_some()
            || self.late_limit_ms.is_some()
            || self.overlap.is_some()
            || self.jitter_ms.is_some()
            || self.webhook_url.is_some()
            || self.secret_parameters.is_some()
    }
}

impl From<RuleError> for ServiceError {
    fn from(refused: RuleError) -> Self {
        Self::field(refused.error, &refused.problem)
    }
}

impl JobTemplate {
    /// The request of a fire.
    pub(super) fn request(&self) -> JobRequest {
        JobRequest {
            script: self.script.clone(),
            argv: self.argv.clone(),
            steps: self.steps.clone(),
            parameters: self.parameters.clone(),
            secret_parameters: None,
            stdin: None,
            file: None,
            timeout_ms: self.timeout_ms,
            expires_in_ms: self.expires_in_ms,
            target: self.target.clone(),
            rollout: self.rollout.clone(),
            webhook_url: None,
            idempotency_key: None,
            trigger: Trigger::Schedule,
            retry_of: None,
            offline: self.offline,
            // One host without the script must not keep the others from running it.
            on_mismatch: OnMismatch::Send,
            calendar_override: None,
            confirmation: self.confirm_agent_count.map(Confirmation::AtMost),
            retries: self.retries,
            lock: self.lock.clone(),
        }
    }
}

impl Schedules {
    pub(super) fn new_row(
        &self,
        caller: &Caller,
        request: ScheduleRequest,
    ) -> Result<ScheduleRecord> {
        if request.name.is_none() {
            return Err(ServiceError::required("name"));
        }
        if request.rule.is_none() {
            return Err(ServiceError::required("rule"));
        }
        if request.job.is_none() {
            return Err(ServiceError::required("job"));
        }
        let now = self.clock.now();
        let blank = ScheduleRecord {
            id: ScheduleId::new(),
            tenant_id: caller.principal.tenant_id,
            name: String::new(),
            rule: String::new(),
            starts_at: None,
            ends_at: None,
            job: String::new(),
            state: ScheduleState::Active,
            stop_reason: None,
            missed: MissedPolicy::Once,
            max_catch_up: DEFAULT_CATCH_UP,
            late_limit_ms: DEFAULT_LATE_LIMIT_MS,
            overlap: OverlapPolicy::Skip,
            jitter_ms: 0,
            owner_id: caller.principal.id,
            created_by: caller.principal.id,
            created_at: now,
            changed_at: now,
            handled_until: now,
            next_due_at: None,
            snoozed_until: None,
            webhook_url: None,
            sealed_parameters: None,
            secret_names: vec![],
        };
        self.with_changes(caller, blank, request, now)
    }

    /// The record with the requested changes. The caller becomes the owner: otherwise a person could
    /// run a job with the rights of another. With a new name alone the owner stays: otherwise a job that
    /// the owner may not run would run with the rights of the caller.
    ///
    /// # Errors
    /// 403 if the caller may not submit the job; 422 names the field; 409 if it is not due again.
    pub(super) fn with_changes(
        &self,
        caller: &Caller,
        mut row: ScheduleRecord,
        request: ScheduleRequest,
        now: Timestamp,
    ) -> Result<ScheduleRecord> {
        let is_other_work = request.changes_more_than_the_name();
        if let Some(name) = request.name {
            check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name = name;
        }
        let moves =
            request.rule.is_some() || request.starts_at.is_some() || request.ends_at.is_some();
        if let Some(rule) = request.rule {
            row.rule = json!(rule.with_defaults(now)).to_string();
        }
        row.starts_at = request.starts_at.unwrap_or(row.starts_at);
        row.ends_at = request.ends_at.unwrap_or(row.ends_at);
        let known_job = std::mem::take(&mut row.job);
        row.job = request.job.map_or_else(|| known_job.clone(), |job| json!(job).to_string());
        let is_other_job = row.job != known_job;
        let secrets = self.set_secrets(&mut row, request.secret_parameters, is_other_job)?;
        row.missed = request.missed.unwrap_or(row.missed);
        row.overlap = request.overlap.unwrap_or(row.overlap);
        let bounded = |field, value: Option<u64>, most: u64, old: i64| match value {
            Some(value) if value > most => Err(ServiceError::out_of_range(field, value, 0..=most)),
            Some(value) => Ok(value.cast_signed()),
            None => Ok(old),
        };
        let catch_up = request.max_catch_up.map(u64::from);
        let catch_up =
            bounded("max_catch_up", catch_up, MAX_CATCH_UP.into(), row.max_catch_up.into())?;
        row.max_catch_up = i32::try_from(catch_up).unwrap_or(DEFAULT_CATCH_UP);
        row.late_limit_ms =
            bounded("late_limit_ms", request.late_limit_ms, MAX_LATE_LIMIT_MS, row.late_limit_ms)?;
        row.jitter_ms = bounded("jitter_ms", request.jitter_ms, MAX_JITTER_MS, row.jitter_ms)?;
        if let Some(url) = request.webhook_url {
            let reach = self.jobs.webhook_reach;
            let url = url.map(|url| check_url(&url, reach)).transpose()?;
            row.webhook_url = url.map(|url| url.as_str().to_owned());
        }
        if is_other_work {
            row.owner_id = caller.principal.id;
        }
        let due_times = row.due_times()?;
        let job = template(&row)?;
        let job = JobRequest { secret_parameters: secrets, ..job.request() };
        self.jobs.check_template(caller, job)?;
        if moves {
            row.handled_until = now;
            if row.state == ScheduleState::Ended {
                row.state = ScheduleState::Active;
            }
            let next = due_times.next_after(now);
            if next.is_none() {
                return Err(never_due());
            }
            row.next_due_at = next.filter(|_| row.state == ScheduleState::Active);
        }
        Ok(row)
    }
}

/// The job of a schedule.
///
/// # Errors
/// 409 if a newer version stored it, and this one does not know its fields.
pub(super) fn template(row: &ScheduleRecord) -> Result<JobTemplate> {
    serde_json::from_str(&row.job).map_err(|_| ServiceError::Conflict {
        code: "schedule_ended",
        detail: "the job of this schedule can't be read; set it again".into(),
    })
}
