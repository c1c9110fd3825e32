//! One open fire: skip it, let it wait, or submit its job.

use super::request::template;
use super::{Schedules, subject};
use crate::domain::ids::JobId;
use crate::domain::schedules::fire::{FireReason, FireState, ScheduleState};
use crate::domain::schedules::policy::{OverlapPolicy, ReadyFire, reason_to_skip};
use crate::domain::schedules::records::ScheduleRecord;
use crate::services::access::caller::{AuditAction, Caller};
use crate::services::commands::jobs::FireResult;
use crate::services::error::ServiceError;
use crate::store::entities::schedules::fire;
use crate::store::queries::{FireDecision, OpenFire};
use crate::store::{FireStart, StoreError};

/// When to look again at a fire that waits for a job, if nothing reports the job's end.
pub(super) const WAIT_MS: u64 = 5_000;
/// When to try again after the server was too busy.
const RETRY_MS: u64 = 1_000;

impl Schedules {
    /// Decides about one open fire. `has_successor`: a later fire of the schedule is ready too.
    pub(super) async fn start(
        &self,
        open: OpenFire,
        has_successor: bool,
    ) -> Result<(), StoreError> {
        let (fire, row) = (open.fire, ScheduleRecord::from(open.schedule));
        let now = self.clock.now();
        if fire.is_manual {
            let detail = "the server stopped before it submitted the job".into();
            return self.decide(&fire, FireDecision::Refuse { detail }).await;
        }
        // The last due time of a schedule ends it before its job starts.
        if !matches!(row.state, ScheduleState::Active | ScheduleState::Ended) {
            return self.skip(&fire, FireReason::NotActive).await;
        }
        let ready = ReadyFire {
            due_at: fire.due_at,
            planned_at: fire.planned_at,
            is_decided: fire.is_missed || fire.state == FireState::Waiting,
            has_successor,
        };
        if let Some(reason) = reason_to_skip(ready, now, row.catch_up()) {
            return self.skip(&fire, reason).await;
        }
        if row.snoozed_until.is_some_and(|until| fire.due_at < until) {
            return self.skip(&fire, FireReason::Snoozed).await;
        }
        let Some(owner) = self.owner(&row, now).await? else {
            return self.pass_on_or_stop(row).await;
        };
        if row.overlap != OverlapPolicy::Allow {
            let jobs = self.store.system().open_jobs_of_schedule(row.id).await?;
            if !jobs.is_empty() {
                return self.overlap(&owner, &row, &fire, jobs).await;
            }
        }
        self.submit(&owner, &row, &fire).await
    }

    /// The owner left: the tenant's owner takes over, or the schedule stops. The fire stays open, and the
    /// next round starts it.
    async fn pass_on_or_stop(&self, row: ScheduleRecord) -> Result<(), StoreError> {
        let Some(successor) = self.successor(&row).await? else {
            return self.stop(&row, OWNER_INVALID.into()).await;
        };
        let detail = serde_json::json!({"from": row.owner_id, "to": successor});
        let action = AuditAction {
            tenant_id: row.tenant_id,
            action: "schedule.pass_on",
            subject: subject(row.id),
            detail: &detail,
            at: self.clock.now(),
        };
        let audit = action.by_system();
        tracing::info!(schedule = %row.id, to = %successor, "a schedule passes to an owner of the tenant");
        self.store.system().pass_schedule_on(row.into(), successor, audit).await?;
        Ok(())
    }

    async fn submit(
        &self,
        owner: &Caller,
        row: &ScheduleRecord,
        fire: &fire::Model,
    ) -> Result<(), StoreError> {
        let start = FireStart {
            fire_id: fire.id,
            schedule_id: row.id,
            is_manual: false,
            allows_overlap: row.overlap == OverlapPolicy::Allow,
            is_forced: false,
        };
        let submitted = match template(row) {
            Ok(job) => match self.complete(row, job.request()) {
                Ok(request) => self.jobs.submit_fire(owner, request, start).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match submitted {
            Ok(FireResult::Submitted(_) | FireResult::NotOpen) => Ok(()),
            // Another server was faster with another fire of the schedule: decide again.
            Ok(FireResult::Overlap) => self.wait(fire, RETRY_MS).await,
            Err(ServiceError::Store(error)) => Err(error),
            Err(
                ServiceError::Busy { .. }
                | ServiceError::TooMany { .. }
                | ServiceError::Timeout { .. }
                | ServiceError::Unready
                | ServiceError::Randomness(_),
            ) => self.wait(fire, RETRY_MS).await,
            Err(ServiceError::Unauthenticated { .. }) => self.stop(row, OWNER_INVALID.into()).await,
            Err(ServiceError::Forbidden { code: "missing_scope", detail }) => {
                self.stop(row, format!("its owner may not run it any more: {detail}")).await
            }
            Err(ServiceError::Conflict { code: "frozen" | "outside_window", detail }) => {
                tracing::info!(schedule = %row.id, fire = %fire.id, detail, "a calendar skips a fire");
                let (reason, detail) = (FireReason::Calendar, Some(detail));
                self.decide(fire, FireDecision::Skip { reason, detail }).await
            }
            Err(refusal) => {
                let detail = refusal.to_string();
                tracing::warn!(schedule = %row.id, fire = %fire.id, detail, "the job of a schedule was refused");
                self.decide(fire, FireDecision::Refuse { detail }).await
            }
        }
    }

    /// What happens while jobs of the schedule have not finished.
    async fn overlap(
        &self,
        owner: &Caller,
        row: &ScheduleRecord,
        fire: &fire::Model,
        jobs: Vec<JobId>,
    ) -> Result<(), StoreError> {
        let waiting = self.store.system().waiting_fires(row.id).await?;
        let others: Vec<_> = waiting.into_iter().filter(|other| other.id != fire.id).collect();
        match row.overlap {
            OverlapPolicy::Allow => Ok(()),
            OverlapPolicy::Skip => self.skip(fire, FireReason::Overlap).await,
            OverlapPolicy::Queue if others.is_empty() => self.wait(fire, WAIT_MS).await,
            OverlapPolicy::Queue => self.skip(fire, FireReason::Overlap).await,
            OverlapPolicy::CancelPrevious => {
                if others.iter().any(|other| other.due_at > fire.due_at) {
                    return self.skip(fire, FireReason::Replaced).await;
                }
                for other in &others {
                    self.skip(other, FireReason::Replaced).await?;
                }
                if fire.state != FireState::Waiting {
                    for job_id in jobs {
                        // A job that its owner may not cancel ends by itself, and the fire waits.
                        if let Err(error) = self.jobs.cancel(owner, job_id).await {
                            tracing::warn!(schedule = %row.id, %error, "failed to cancel the previous job");
                        }
                    }
                }
                self.wait(fire, WAIT_MS).await
            }
        }
    }

    pub(super) async fn wait(&self, fire: &fire::Model, wait_ms: u64) -> Result<(), StoreError> {
        let look_at = self.clock.now().plus_ms(wait_ms);
        self.decide(fire, FireDecision::Wait { look_at }).await
    }

    async fn skip(&self, fire: &fire::Model, reason: FireReason) -> Result<(), StoreError> {
        self.decide(fire, FireDecision::Skip { reason, detail: None }).await
    }

    pub(super) async fn decide(
        &self,
        fire: &fire::Model,
        decision: FireDecision,
    ) -> Result<(), StoreError> {
        self.store.system().decide_fire(fire.id, decision).await?;
        Ok(())
    }
}

const OWNER_INVALID: &str = "the API key of its owner was revoked or has expired, or its owner left; enable it to become its owner";
