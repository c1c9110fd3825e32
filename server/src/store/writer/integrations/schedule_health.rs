//! The end of a job that a schedule started is also an event of the schedule.

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, JoinType, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use serde_json::json;

use crate::domain::commands::job_state::JobState;
use crate::domain::ids::{JobId, ScheduleId};
use crate::domain::integrations::event_type::{EventGroup, EventType};
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::schedules::duration::{COMPARED_RUNS, unusual_duration};
use crate::domain::time::Timestamp;
use crate::store::entities::commands::job;
use crate::store::entities::integrations::integration;
use crate::store::entities::schedules::{fire, schedule};
use crate::store::writer::MAX_LIST;
use crate::store::writer::rows::pad_to_power_of_two;

/// The events of schedules whose jobs ended in this transaction, if an integration takes them.
pub(super) async fn derive<'a>(
    transaction: &DatabaseTransaction,
    mut integrations: impl Iterator<Item = &'a integration::Model>,
    events: &[IntegrationEvent],
) -> Result<Vec<IntegrationEvent>, DbErr> {
    let takes = |row: &integration::Model| {
        row.event_types.0.iter().any(|taken| {
            taken.group() == Some(EventGroup::ScheduleHealth)
                || *taken == EventType::ScheduleUnusualDuration
        })
    };
    let ended: Vec<_> = events
        .iter()
        .filter_map(|event| Some((event, health(event.event)?, event.job_id?)))
        .collect();
    if ended.is_empty() || !integrations.any(takes) {
        return Ok(vec![]);
    }
    let mut derived = Vec::new();
    for ended in ended.chunks(MAX_LIST) {
        let found: Vec<(Option<JobId>, ScheduleId)> = fire::Entity::find()
            .select_only()
            .column(fire::Column::JobId)
            .column(fire::Column::ScheduleId)
            .filter(
                fire::Column::JobId.is_in(pad_to_power_of_two(ended.iter().map(|(.., id)| *id))),
            )
            .into_tuple()
            .all(transaction)
            .await?;
        let schedules = pad_to_power_of_two(found.iter().map(|(_, id)| *id));
        let names: Vec<(ScheduleId, String)> = schedule::Entity::find()
            .select_only()
            .column(schedule::Column::Id)
            .column(schedule::Column::Name)
            .filter(schedule::Column::Id.is_in(schedules))
            .into_tuple()
            .all(transaction)
            .await?;
        for (event, health, job_id) in ended {
            let of_job = found.iter().find(|(of_job, _)| *of_job == Some(*job_id));
            let named = of_job.and_then(|(_, id)| names.iter().find(|(known, _)| known == id));
            let Some((id, name)) = named else { continue };
            let data = json!({"schedule_id": id, "schedule_name": name, "job_id": job_id});
            let of_schedule = |event_type, data| IntegrationEvent {
                event: event_type,
                subject_id: id.0,
                data,
                ..(*event).clone()
            };
            if *health == EventType::ScheduleRecovered
                && let Some((duration_ms, usual_ms)) = unusual(transaction, *id, *job_id).await?
            {
                let mut data = data.clone();
                data["duration_ms"] = json!(duration_ms);
                data["usual_duration_ms"] = json!(usual_ms);
                derived.push(of_schedule(EventType::ScheduleUnusualDuration, data));
            }
            derived.push(of_schedule(*health, data));
        }
    }
    Ok(derived)
}

/// How long the successful job took and how long it usually takes, if that is unusual.
async fn unusual(
    transaction: &DatabaseTransaction,
    schedule_id: ScheduleId,
    job_id: JobId,
) -> Result<Option<(u64, u64)>, DbErr> {
    let runs: Vec<(JobId, Timestamp, Option<Timestamp>)> = fire::Entity::find()
        .select_only()
        .column(job::Column::Id)
        .column(job::Column::CreatedAt)
        .column(job::Column::FinishedAt)
        .join(
            JoinType::InnerJoin,
            fire::Entity::belongs_to(job::Entity)
                .from(fire::Column::JobId)
                .to(job::Column::Id)
                .into(),
        )
        .filter(fire::Column::ScheduleId.eq(schedule_id))
        .filter(job::Column::State.eq(JobState::Succeeded))
        .order_by_desc(fire::Column::Id)
        .limit(COMPARED_RUNS + 1)
        .into_tuple()
        .all(transaction)
        .await?;
    let took = |(_, start, end): &(JobId, Timestamp, Option<Timestamp>)| {
        end.map(|end| end.ms_since(*start))
    };
    let this = runs.iter().find(|(id, ..)| *id == job_id).and_then(took);
    let before: Vec<u64> = runs.iter().filter(|(id, ..)| *id != job_id).filter_map(took).collect();
    Ok(this.and_then(|ms| Some((ms, unusual_duration(ms, &before)?))))
}

fn health(event: EventType) -> Option<EventType> {
    match event {
        EventType::JobSucceeded => Some(EventType::ScheduleRecovered),
        EventType::JobFailed => Some(EventType::ScheduleFailed),
        _ => None,
    }
}
