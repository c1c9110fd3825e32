//! `/api/jobs/{id}/pause`, `resume` and `abort`, and the view of a rollout.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{JobView, accepted};
use crate::domain::commands::rollout::RolloutSpec;
use crate::domain::ids::JobId;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::stored_json;
use crate::services::access::caller::Caller;
use crate::store::queries::{RolloutAction, RolloutProgress};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(pause_job))
        .routes(routes!(resume_job))
        .routes(routes!(abort_job))
}

/// The progress of a job in waves.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RolloutView {
    /// The rollout as requested.
    #[schema(value_type = RolloutSpec)]
    asked: Value,
    /// The current wave, counted from 1.
    wave: i32,
    wave_count: i32,
    /// When every execution of the wave had ended, while the next wave waits for the pause or the
    /// health gate.
    wave_ended_at: Option<Timestamp>,
    /// Queued executions that are still held.
    held: u64,
    /// Executions that were skipped.
    skipped: u64,
}

impl From<RolloutProgress> for RolloutView {
    fn from(now: RolloutProgress) -> Self {
        let RolloutProgress { row, counts } = now;
        Self {
            asked: stored_json(&row.spec),
            wave: row.wave,
            wave_count: row.wave_count,
            wave_ended_at: row.wave_ended_at,
            held: counts.held,
            skipped: counts.skipped,
        }
    }
}

/// Pause a rollout: no execution starts, and running ones continue. Repeatable.
#[utoipa::path(post, path = "/api/jobs/{id}/pause", tag = "jobs",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 202, body = JobView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn pause_job(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<Response> {
    let jobs = &state.services.jobs;
    let job = jobs.apply_rollout_action(&caller, JobId(id), RolloutAction::Pause).await?;
    Ok(accepted(job, &caller))
}

/// Resume a rollout that is paused or halted. After a halt its failures so far are ignored, and the
/// pause and the health gate of a finished wave do not apply. Repeatable.
#[utoipa::path(post, path = "/api/jobs/{id}/resume", tag = "jobs",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 202, body = JobView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn resume_job(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<Response> {
    let jobs = &state.services.jobs;
    let job = jobs.apply_rollout_action(&caller, JobId(id), RolloutAction::Resume).await?;
    Ok(accepted(job, &caller))
}

/// Abort a rollout: queued executions end, and running ones continue. Repeatable.
#[utoipa::path(post, path = "/api/jobs/{id}/abort", tag = "jobs",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 202, body = JobView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn abort_job(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<Response> {
    let jobs = &state.services.jobs;
    let job = jobs.apply_rollout_action(&caller, JobId(id), RolloutAction::Abort).await?;
    Ok(accepted(job, &caller))
}
