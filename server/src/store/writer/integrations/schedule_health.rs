//! The end of a job that a schedule started is also an event of the schedule.

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};
use serde_json::json;

use crate::domain::ids::{JobId, ScheduleId};
use crate::domain::integrations::event_type::{EventGroup, EventType};
use crate::domain::integrations::integration::IntegrationEvent;
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
        row.event_types.0.iter().any(|taken| taken.group() == Some(EventGroup::ScheduleHealth))
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
            derived.push(IntegrationEvent {
                event: *health,
                subject_id: id.0,
                data: json!({"schedule_id": id, "schedule_name": name, "job_id": job_id}),
                ..(*event).clone()
            });
        }
    }
    Ok(derived)
}

fn health(event: EventType) -> Option<EventType> {
    match event {
        EventType::JobSucceeded => Some(EventType::ScheduleRecovered),
        EventType::JobFailed => Some(EventType::ScheduleFailed),
        _ => None,
    }
}
