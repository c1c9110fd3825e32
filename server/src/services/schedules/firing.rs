//! Due times become fires, and fires become jobs. Each step is one transaction, decided from what is
//! stored: a server that stops in between leaves nothing undone and does nothing twice. The clock only
//! says which due times have come; the rule says what they are.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use muster_protocol::error_chain;

use super::Schedules;
use super::starts::WAIT_MS;
use super::subject;
use crate::domain::ids::{FireId, ScheduleId};
use crate::domain::schedules::fire::{FireState, jitter};
use crate::domain::schedules::policy::{self, PlannedFire};
use crate::domain::schedules::records::ScheduleRecord;
use crate::domain::time::Timestamp;
use crate::services::access::caller::AuditAction;
use crate::store::StoreError;
use crate::store::entities::schedules::fire;
use crate::store::queries::{FireDecision, OpenFire, RecordedFires};

/// Schedules whose due times are stored in one transaction.
const BATCH: u64 = 200;
/// Fires that one query returns.
const OPEN_AT_ONCE: u64 = 500;
/// Schedules whose jobs are submitted at the same time.
const STARTS_AT_ONCE: usize = 16;

/// Why a schedule stops and its fire is refused.
const DEFECT: &str = "the server failed because of a defect, which its log describes; change the schedule and enable it";

/// What there is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleWork {
    /// In how many milliseconds the next schedule is due or the next fire is to be looked at.
    pub due_in_ms: Option<u64>,
    /// Fires wait for the end of jobs.
    pub has_waiting: bool,
}

impl Schedules {
    /// Waits until a person changed a schedule.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Records all due times that have come and starts all fires whose time has come. `with_waiting`:
    /// a job may have ended, so look at fires that wait for one.
    ///
    /// # Errors
    /// [`StoreError`]; the next call does what was not committed.
    pub async fn fire_due(&self, with_waiting: bool) -> Result<ScheduleWork, StoreError> {
        loop {
            let now = self.clock.now();
            let due = self.store.system().due_schedules(now, BATCH).await?;
            if due.is_empty() {
                break;
            }
            self.record(due.into_iter().map(ScheduleRecord::from).collect(), now).await?;
        }
        let mut with_waiting = with_waiting;
        loop {
            let now = self.clock.now();
            let open = self.store.system().open_fires(now, with_waiting, OPEN_AT_ONCE).await?;
            let is_full = open.len() as u64 == OPEN_AT_ONCE;
            // Those that go on waiting would be found again.
            with_waiting = false;
            self.start_all(open, now).await?;
            if !is_full {
                break;
            }
        }
        let system = self.store.system();
        let next = system.next_schedule_work().await?;
        Ok(ScheduleWork {
            due_in_ms: next.map(|next| next.ms_since(self.clock.now())),
            has_waiting: system.has_waiting_fires().await?,
        })
    }

    /// Decides about all due times of these schedules up to now, and stores them.
    pub(super) async fn record(
        &self,
        due: Vec<ScheduleRecord>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut recorded = Vec::with_capacity(due.len());
        for row in due {
            let Ok(due_times) = row.due_times() else {
                self.stop(&row, "its rule can't be read".into()).await?;
                continue;
            };
            let plan = contained(async {
                policy::plan(&due_times, row.handled_until, now, row.catch_up())
            });
            let Some(plan) = plan.await else {
                self.stop(&row, DEFECT.into()).await?;
                continue;
            };
            let missed = plan.fires.iter().filter(|fire| fire.is_missed).count() as u64;
            let (id, missed) = (row.id, missed + plan.omitted);
            if missed > 0 {
                tracing::warn!(schedule = %id, missed, policy = ?row.missed, "a schedule missed fires");
            }
            let handled_until = plan.fires.last().map_or(row.handled_until, |last| last.due_at);
            let mut fires: Vec<_> =
                plan.fires.into_iter().map(|fire| fire_row(&row, fire, now)).collect();
            if let Some(first) = fires.first_mut() {
                first.omitted_before = plan.omitted.cast_signed();
            }
            recorded.push(RecordedFires {
                schedule_id: id,
                was: (row.changed_at, row.handled_until),
                handled_until,
                next_due_at: plan.next_due_at,
                fires,
            });
        }
        self.store.system().record_fires(recorded).await?;
        Ok(())
    }

    /// Starts open fires: those of one schedule one after the other.
    async fn start_all(&self, open: Vec<OpenFire>, now: Timestamp) -> Result<(), StoreError> {
        let mut newest: HashMap<ScheduleId, (Timestamp, FireId)> = HashMap::new();
        let mut by_schedule: HashMap<ScheduleId, Vec<OpenFire>> = HashMap::new();
        for one in open {
            let id = one.schedule.id;
            let is_ready = one.fire.planned_at <= now && !one.fire.is_manual;
            let this = (one.fire.due_at, one.fire.id);
            if is_ready && newest.get(&id).is_none_or(|known| *known < this) {
                newest.insert(id, this);
            }
            by_schedule.entry(id).or_default().push(one);
        }
        let newest = &newest;
        let starts = by_schedule.into_values().map(async |mut fires| {
            fires.sort_by_key(|one| (one.fire.due_at, one.fire.id));
            for one in fires {
                let has_successor = newest
                    .get(&one.schedule.id)
                    .is_some_and(|known| *known > (one.fire.due_at, one.fire.id));
                self.start_contained(one, has_successor).await?;
            }
            Ok::<_, StoreError>(())
        });
        let results: Vec<_> = stream::iter(starts).buffer_unordered(STARTS_AT_ONCE).collect().await;
        results.into_iter().collect()
    }

    /// Starts a fire. What goes wrong with it concerns its schedule alone: the others go on.
    async fn start_contained(&self, open: OpenFire, has_successor: bool) -> Result<(), StoreError> {
        let (fire, schedule) = (open.fire.clone(), open.schedule.clone());
        match contained(Box::pin(self.start(open, has_successor))).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                let error = error_chain(&error);
                tracing::warn!(schedule = %schedule.id, fire = %fire.id, error, "failed to start a fire; trying again");
                // It fails too if the whole database does, and ends this round.
                self.wait(&fire, WAIT_MS).await
            }
            None => {
                let detail = DEFECT.to_owned();
                self.decide(&fire, FireDecision::Refuse { detail }).await?;
                self.stop(&schedule.into(), DEFECT.into()).await
            }
        }
    }

    /// Stops a schedule that can't go on without a person.
    pub(super) async fn stop(
        &self,
        row: &ScheduleRecord,
        reason: String,
    ) -> Result<(), StoreError> {
        let detail = serde_json::json!({"reason": reason});
        let action = AuditAction {
            tenant_id: row.tenant_id,
            action: "schedule.stop",
            subject: subject(row.id),
            detail: &detail,
            at: self.clock.now(),
        };
        let audit = action.by_system();
        tracing::warn!(schedule = %row.id, reason, "stopped a schedule");
        self.store.system().stop_schedule(row.clone().into(), reason, audit).await?;
        Ok(())
    }
}

/// The result of a future, or `None` if it panicked: the worker must outlive one bad schedule.
async fn contained<T>(future: impl Future<Output = T>) -> Option<T> {
    // What a panic leaves half done is in memory of the future alone; the database rolls back.
    AssertUnwindSafe(future).catch_unwind().await.ok()
}

fn fire_row(row: &ScheduleRecord, fire: PlannedFire, now: Timestamp) -> fire::Model {
    let delay_ms = jitter(row.id, fire.due_at, row.jitter_ms.unsigned_abs());
    let planned_at = fire.due_at.plus_ms(delay_ms);
    let is_open = fire.skipped.is_none();
    fire::Model {
        id: FireId::new(),
        tenant_id: row.tenant_id,
        schedule_id: row.id,
        due_at: fire.due_at,
        planned_at,
        is_manual: false,
        is_missed: fire.is_missed,
        state: if is_open { FireState::Pending } else { FireState::Skipped },
        reason: fire.skipped,
        detail: None,
        job_id: None,
        fired_at: None,
        recorded_at: now,
        omitted_before: 0,
        look_at: is_open.then_some(planned_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_while_one_schedule_is_handled_does_not_reach_the_worker() {
        let row: Option<serde_json::Value> = None;
        let broken = contained(async { row.as_ref().expect("a row that can't be read").is_null() });
        assert_eq!(broken.await, None);
        assert_eq!(contained(async { 7 }).await, Some(7));
    }
}
