//! Due times become fires. The unique index of `fires` and the conditions of each update make sure
//! that several servers, or one that was killed, do it once.

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
};
use serde_json::{Value, json};

use crate::domain::ids::{FireId, JobId, ScheduleId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::schedules::fire::{FireReason, FireState, ScheduleState};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::schedules::{fire, schedule};
use crate::store::fire_start::open_jobs;
use crate::store::queries::SystemScope;
use crate::store::queries::access::tenants::tenant_deletion::closed_tenants;
use crate::store::writer::{add_audit, add_events};

/// Rows of one statement.
const ROWS: usize = 50;

/// The due times of a schedule up to an instant.
#[derive(Debug, Clone)]
pub struct RecordedFires {
    pub schedule_id: ScheduleId,
    /// `changed_at` and `handled_until` of the row that they were computed from.
    pub was: (Timestamp, Timestamp),
    pub handled_until: Timestamp,
    pub next_due_at: Option<Timestamp>,
    pub fires: Vec<fire::Model>,
}

/// A fire to decide about, with its schedule.
#[derive(Debug, Clone)]
pub struct OpenFire {
    pub fire: fire::Model,
    pub schedule: schedule::Model,
}

/// What happens to an open fire that gets no job now.
#[derive(Debug, Clone)]
pub enum FireDecision {
    Skip {
        reason: FireReason,
        detail: Option<String>,
    },
    Refuse {
        detail: String,
    },
    /// It waits for another job. `look_at`: when to look again at the latest.
    Wait {
        look_at: Timestamp,
    },
}

impl SystemScope {
    /// Schedules that are due, the earliest first.
    pub async fn due_schedules(
        &self,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<schedule::Model>, StoreError> {
        let query = schedule::Entity::find()
            .filter(schedule::Column::NextDueAt.lte(now))
            .filter(schedule::Column::TenantId.not_in_subquery(closed_tenants()))
            .order_by_asc(schedule::Column::NextDueAt)
            .order_by_asc(schedule::Column::Id)
            .limit(limit);
        Ok(query.all(&self.reader).await?)
    }

    /// When the next schedule is due or the next fire is to be looked at; `None` if there is none.
    pub async fn next_schedule_work(&self) -> Result<Option<Timestamp>, StoreError> {
        let due: Option<Timestamp> = schedule::Entity::find()
            .select_only()
            .column(schedule::Column::NextDueAt)
            .filter(schedule::Column::NextDueAt.is_not_null())
            .filter(schedule::Column::TenantId.not_in_subquery(closed_tenants()))
            .order_by_asc(schedule::Column::NextDueAt)
            .limit(1)
            .into_tuple()
            .one(&self.reader)
            .await?;
        let open: Option<Timestamp> = fire::Entity::find()
            .select_only()
            .column(fire::Column::LookAt)
            .filter(fire::Column::LookAt.is_not_null())
            .filter(fire::Column::TenantId.not_in_subquery(closed_tenants()))
            .order_by_asc(fire::Column::LookAt)
            .limit(1)
            .into_tuple()
            .one(&self.reader)
            .await?;
        Ok(due.into_iter().chain(open).min())
    }

    /// Stores the fires of due times, and moves their schedules on. Schedules that were changed or
    /// handled meanwhile are left out. Returns how many were stored.
    pub async fn record_fires(&self, recorded: Vec<RecordedFires>) -> Result<u64, StoreError> {
        self.writer
            .change(move |transaction| {
                let recorded = recorded.clone();
                Box::pin(async move {
                    let mut stored = 0;
                    let mut fires = Vec::new();
                    for one in recorded {
                        if move_on(transaction, &one).await? {
                            stored += 1;
                            add_events(missed_event(transaction, &one).await?);
                            fires.extend(one.fires);
                        }
                    }
                    insert(transaction, fires).await?;
                    Ok(stored)
                })
            })
            .await
    }

    /// Fires to look at now, the earliest first, with their schedules. `with_waiting`: also those that
    /// wait for a job, whenever they would be looked at.
    pub async fn open_fires(
        &self,
        now: Timestamp,
        with_waiting: bool,
        limit: u64,
    ) -> Result<Vec<OpenFire>, StoreError> {
        let mut is_due = Condition::any().add(fire::Column::LookAt.lte(now));
        if with_waiting {
            let is_waiting = Condition::all()
                .add(fire::Column::LookAt.is_not_null())
                .add(fire::Column::State.eq(FireState::Waiting));
            is_due = is_due.add(is_waiting);
        }
        let fires = fire::Entity::find()
            .filter(is_due)
            .filter(fire::Column::TenantId.not_in_subquery(closed_tenants()))
            .order_by_asc(fire::Column::LookAt)
            .order_by_asc(fire::Column::Id)
            .limit(limit)
            .all(&self.reader)
            .await?;
        let mut ids: Vec<ScheduleId> = fires.iter().map(|fire| fire.schedule_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut schedules = Vec::new();
        for ids in ids.chunks(ROWS) {
            let query =
                schedule::Entity::find().filter(schedule::Column::Id.is_in(ids.iter().copied()));
            schedules.extend(query.all(&self.reader).await?);
        }
        let open = fires.into_iter().filter_map(|fire| {
            let schedule = schedules.iter().find(|row| row.id == fire.schedule_id)?.clone();
            Some(OpenFire { fire, schedule })
        });
        Ok(open.collect())
    }

    /// True if fires wait for the end of jobs.
    pub async fn has_waiting_fires(&self) -> Result<bool, StoreError> {
        let query = waiting().select_only().column(fire::Column::Id).limit(1);
        let found: Vec<FireId> = query.into_tuple().all(&self.reader).await?;
        Ok(!found.is_empty())
    }

    /// Fires of a schedule that wait for the end of jobs.
    pub async fn waiting_fires(&self, id: ScheduleId) -> Result<Vec<fire::Model>, StoreError> {
        Ok(waiting().filter(fire::Column::ScheduleId.eq(id)).all(&self.reader).await?)
    }

    /// Jobs of a schedule that have not finished.
    pub async fn open_jobs_of_schedule(&self, id: ScheduleId) -> Result<Vec<JobId>, StoreError> {
        Ok(open_jobs(&self.reader, id).await?)
    }

    /// Decides about an open fire; false if it is not open any more.
    pub async fn decide_fire(
        &self,
        id: FireId,
        decision: FireDecision,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let decision = decision.clone();
                Box::pin(async move {
                    let refused = match &decision {
                        FireDecision::Refuse { detail } => Some(detail.clone()),
                        _ => None,
                    };
                    let update = fire::Entity::update_many()
                        .filter(fire::Column::Id.eq(id))
                        .filter(fire::Column::LookAt.is_not_null());
                    let update = match decision {
                        FireDecision::Skip { reason, detail } => update
                            .col_expr(fire::Column::State, Expr::value(FireState::Skipped))
                            .col_expr(fire::Column::Reason, Expr::value(reason))
                            .col_expr(fire::Column::Detail, Expr::value(detail))
                            .col_expr(fire::Column::LookAt, Expr::value(None::<i64>)),
                        FireDecision::Refuse { detail } => update
                            .col_expr(fire::Column::State, Expr::value(FireState::Refused))
                            .col_expr(fire::Column::Reason, Expr::value(FireReason::JobRefused))
                            .col_expr(fire::Column::Detail, Expr::value(detail))
                            .col_expr(fire::Column::LookAt, Expr::value(None::<i64>)),
                        FireDecision::Wait { look_at } => update
                            .col_expr(fire::Column::State, Expr::value(FireState::Waiting))
                            .col_expr(fire::Column::LookAt, Expr::value(look_at.0)),
                    };
                    let is_decided = update.exec(transaction).await?.rows_affected > 0;
                    if let (true, Some(detail)) = (is_decided, refused) {
                        add_events(refused_event(transaction, id, detail).await?);
                    }
                    Ok(is_decided)
                })
            })
            .await
    }

    /// Stops a schedule whose owner may not run it any more, and skips its open fires; false if it
    /// was changed since it was read.
    pub async fn stop_schedule(
        &self,
        row: schedule::Model,
        reason: String,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (reason, audit) = (reason.clone(), audit.clone());
                let (id, was_changed_at) = (row.id, row.changed_at);
                let (tenant_id, name) = (row.tenant_id, row.name.clone());
                Box::pin(async move {
                    let changed_at = audit.at.max(was_changed_at.plus_ms(1));
                    let stopped = schedule::Entity::update_many()
                        .col_expr(schedule::Column::State, Expr::value(ScheduleState::Stopped))
                        .col_expr(schedule::Column::StopReason, Expr::value(reason.clone()))
                        .col_expr(schedule::Column::NextDueAt, Expr::value(None::<i64>))
                        .col_expr(schedule::Column::ChangedAt, Expr::value(changed_at.0))
                        .filter(schedule::Column::Id.eq(id))
                        .filter(schedule::Column::ChangedAt.eq(was_changed_at))
                        .exec(transaction)
                        .await?;
                    if stopped.rows_affected == 0 {
                        return Ok(false);
                    }
                    close_fires(transaction, id, FireReason::OwnerInvalid).await?;
                    add_audit(audit)?;
                    add_events([IntegrationEvent {
                        tenant_id,
                        event: EventType::ScheduleStopped,
                        at: changed_at,
                        subject_id: id.0,
                        agent_id: None,
                        job_id: None,
                        data: json!({"schedule_id": id, "schedule_name": name, "reason": reason}),
                    }]);
                    Ok(true)
                })
            })
            .await
    }
}

fn waiting() -> Select<fire::Entity> {
    fire::Entity::find()
        .filter(fire::Column::LookAt.is_not_null())
        .filter(fire::Column::TenantId.not_in_subquery(closed_tenants()))
        .filter(fire::Column::State.eq(FireState::Waiting))
}

/// Moves a schedule past its due times, unless it was changed or handled meanwhile.
async fn move_on(
    transaction: &DatabaseTransaction,
    recorded: &RecordedFires,
) -> Result<bool, StoreError> {
    let mut update = schedule::Entity::update_many()
        .col_expr(schedule::Column::HandledUntil, Expr::value(recorded.handled_until.0))
        .col_expr(
            schedule::Column::NextDueAt,
            Expr::value(recorded.next_due_at.map(|due_at| due_at.0)),
        )
        .filter(schedule::Column::Id.eq(recorded.schedule_id))
        .filter(schedule::Column::State.eq(ScheduleState::Active))
        .filter(schedule::Column::ChangedAt.eq(recorded.was.0))
        .filter(schedule::Column::HandledUntil.eq(recorded.was.1));
    if recorded.next_due_at.is_none() {
        update = update.col_expr(schedule::Column::State, Expr::value(ScheduleState::Ended));
    }
    Ok(update.exec(transaction).await?.rows_affected > 0)
}

/// A due time that has a fire keeps it: after a clock was set back, an edited rule may name it again.
async fn insert(
    transaction: &DatabaseTransaction,
    fires: Vec<fire::Model>,
) -> Result<(), StoreError> {
    let known = OnConflict::columns([fire::Column::ScheduleId, fire::Column::DueAt])
        .do_nothing()
        .to_owned();
    for fires in fires.chunks(ROWS) {
        let rows = fires.iter().cloned().map(fire::Model::into_active_model);
        fire::Entity::insert_many(rows)
            .on_conflict(known.clone())
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

/// Skips all open fires of a schedule.
pub(super) async fn close_fires(
    transaction: &DatabaseTransaction,
    id: ScheduleId,
    reason: FireReason,
) -> Result<(), StoreError> {
    fire::Entity::update_many()
        .col_expr(fire::Column::State, Expr::value(FireState::Skipped))
        .col_expr(fire::Column::Reason, Expr::value(reason))
        .col_expr(fire::Column::LookAt, Expr::value(None::<i64>))
        .filter(fire::Column::ScheduleId.eq(id))
        .filter(fire::Column::LookAt.is_not_null())
        .exec(transaction)
        .await?;
    Ok(())
}

/// What integrations hear of due times that the server got to late.
async fn missed_event(
    transaction: &DatabaseTransaction,
    recorded: &RecordedFires,
) -> Result<Option<IntegrationEvent>, StoreError> {
    let omitted: i64 = recorded.fires.iter().map(|fire| fire.omitted_before).sum();
    let missed: Vec<_> = recorded.fires.iter().filter(|fire| fire.is_missed).collect();
    let Some(last) = missed.last() else { return Ok(None) };
    let count = omitted + missed.len() as i64;
    let data = json!({"missed_count": count, "last_due_at": last.due_at});
    let event = EventType::ScheduleMissed;
    schedule_event(transaction, recorded.schedule_id, event, last.recorded_at, data).await
}

/// What integrations hear of a fire whose job was refused.
async fn refused_event(
    transaction: &DatabaseTransaction,
    id: FireId,
    detail: String,
) -> Result<Option<IntegrationEvent>, StoreError> {
    let found = fire::Entity::find_by_id(id).all(transaction).await?.pop();
    let Some(fire) = found else { return Ok(None) };
    let data = json!({"due_at": fire.due_at, "reason": detail});
    let event = EventType::ScheduleFailed;
    schedule_event(transaction, fire.schedule_id, event, fire.planned_at, data).await
}

async fn schedule_event(
    transaction: &DatabaseTransaction,
    id: ScheduleId,
    event: EventType,
    at: Timestamp,
    mut data: Value,
) -> Result<Option<IntegrationEvent>, StoreError> {
    let found = schedule::Entity::find_by_id(id).all(transaction).await?.pop();
    let Some(row) = found else { return Ok(None) };
    data["schedule_id"] = json!(id);
    data["schedule_name"] = json!(row.name);
    let tenant_id = row.tenant_id;
    Ok(Some(IntegrationEvent {
        tenant_id,
        event,
        at,
        subject_id: id.0,
        agent_id: None,
        job_id: None,
        data,
    }))
}
