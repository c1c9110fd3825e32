//! The start of a fire, in the transaction that creates its job.

use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    ExprTrait as _, QueryFilter as _, QuerySelect as _,
};

use super::entities::commands::job;
use super::entities::schedules::{fire, schedule};
use crate::domain::ids::{FireId, JobId, ScheduleId};
use crate::domain::schedules::fire::FireState;
use crate::domain::time::Timestamp;

/// The fire of a new job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FireStart {
    pub fire_id: FireId,
    pub schedule_id: ScheduleId,
    /// A person asked for it; it is not a due time of the rule.
    pub is_manual: bool,
    /// It starts although another job of the schedule has not finished.
    pub allows_overlap: bool,
    /// Main of a script with a trigger runs without the trigger.
    pub is_forced: bool,
}

/// Whether the fire may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Started {
    Yes,
    /// It has a job, was skipped, or was deleted with its schedule.
    NotOpen,
    /// Another job of the schedule has not finished.
    Overlap,
}

impl FireStart {
    /// Gives the fire its job. Without [`Started::Yes`] it has changed no row.
    pub(super) async fn start(
        &self,
        transaction: &DatabaseTransaction,
        job_id: JobId,
        now: Timestamp,
    ) -> Result<Started, DbErr> {
        // The lock makes the starts of one schedule wait for each other. SQLite has one writer.
        let known = schedule::Entity::find_by_id(self.schedule_id).lock_exclusive();
        if known.all(transaction).await?.is_empty() {
            return Ok(Started::NotOpen);
        }
        if !self.allows_overlap && !open_jobs(transaction, self.schedule_id).await?.is_empty() {
            return Ok(Started::Overlap);
        }
        let started = fire::Entity::update_many()
            .col_expr(fire::Column::State, Expr::value(FireState::Fired))
            .col_expr(fire::Column::JobId, Expr::value(job_id.0))
            .col_expr(fire::Column::FiredAt, Expr::value(now.0))
            .col_expr(fire::Column::LookAt, Expr::value(None::<i64>))
            .filter(fire::Column::Id.eq(self.fire_id))
            .filter(fire::Column::LookAt.is_not_null())
            .exec(transaction)
            .await?;
        Ok(if started.rows_affected == 1 { Started::Yes } else { Started::NotOpen })
    }
}

/// Jobs of a schedule that have not finished. Reads the index of unfinished jobs, which is small, and
/// not the fires, which may be many.
pub(super) async fn open_jobs(
    connection: &impl ConnectionTrait,
    id: ScheduleId,
) -> Result<Vec<JobId>, DbErr> {
    let fires = Query::select()
        .expr(Expr::val(1))
        .from(fire::Entity)
        .and_where(
            Expr::col((fire::Entity, fire::Column::JobId)).equals((job::Entity, job::Column::Id)),
        )
        .and_where(Expr::col((fire::Entity, fire::Column::ScheduleId)).eq(id))
        .take();
    job::Entity::find()
        .select_only()
        .column(job::Column::Id)
        .filter(job::Column::FinishedAt.is_null())
        .filter(Expr::exists(fires))
        .into_tuple()
        .all(connection)
        .await
}
