//! `/api/jobs/preview`

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::JobBody;
use crate::domain::commands::preview::PreviewDecision;
use crate::domain::ids::AgentId;
use crate::http::AppState;
use crate::http::extract::Body;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::commands::jobs::preview::{AgentPreview, JobPreview};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(preview_job))
}

/// What a job would do.
#[derive(Debug, Serialize, ToSchema)]
struct JobPreviewView {
    /// False if the request would be refused as it is: see `agents` for the reasons.
    would_start: bool,
    /// It would wait for another person's approval first.
    needs_approval: bool,
    /// Number of agents of the target.
    agent_count: u64,
    counts: DecisionCounts,
    /// The first 500 agents: those that would refuse, then those that are skipped, wait and run.
    agents: Vec<AgentPreviewView>,
}

/// Number of agents by decision.
#[derive(Debug, Serialize, ToSchema)]
struct DecisionCounts {
    refuse: u64,
    skip: u64,
    wait: u64,
    run: u64,
}

/// What a job would do on one agent.
#[derive(Debug, Serialize, ToSchema)]
struct AgentPreviewView {
    id: AgentId,
    name: String,
    is_online: bool,
    decision: PreviewDecision,
    /// Why its host would refuse.
    reason: Option<String>,
}

impl From<JobPreview> for JobPreviewView {
    fn from(preview: JobPreview) -> Self {
        let count = |made| preview.counts.get(&made).copied().unwrap_or_default();
        Self {
            would_start: preview.would_start,
            needs_approval: preview.needs_approval,
            agent_count: preview.counts.values().sum(),
            counts: DecisionCounts {
                refuse: count(PreviewDecision::Refuse),
                skip: count(PreviewDecision::Skip),
                wait: count(PreviewDecision::Wait),
                run: count(PreviewDecision::Run),
            },
            agents: preview.agents.into_iter().map(AgentPreviewView::from).collect(),
        }
    }
}

impl From<AgentPreview> for AgentPreviewView {
    fn from(agent: AgentPreview) -> Self {
        let AgentPreview { id, name, is_online, decision, reason } = agent;
        Self { id, name, is_online, decision, reason }
    }
}

/// Preview a job: which agents would run it, wait, be skipped or refuse it. Stores and sends nothing.
///
/// Connected hosts that seem to refuse are asked for their current manifest first. The host decides again
/// when it gets the job.
#[utoipa::path(post, path = "/api/jobs/preview", tag = "jobs", request_body = JobBody,
    responses((status = 200, body = JobPreviewView), (status = 403, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn preview_job(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<JobBody>,
) -> ApiResult<axum::Json<JobPreviewView>> {
    let preview = state.services.jobs.preview(&caller, body.into_request(None)).await?;
    Ok(axum::Json(preview.into()))
}
