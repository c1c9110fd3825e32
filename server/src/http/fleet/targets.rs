//! `/api/targets`

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::fleet::target::TargetSpec;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::AgentId;
use crate::http::AppState;
use crate::http::extract::Body;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::fleet::targets::TargetPreview;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(preview_target))
}

/// The agents that a target matches now.
#[derive(Debug, Serialize, ToSchema)]
struct PreviewView {
    /// Matched agents.
    matched_count: usize,
    /// Matched agents that are connected.
    online_count: usize,
    /// The first 50 matched agents by name.
    agents: Vec<MeantAgentView>,
    /// Ids in the target that belong to no agent.
    unknown_ids: Vec<AgentId>,
}

/// An agent that a target matches.
#[derive(Debug, Serialize, ToSchema)]
struct MeantAgentView {
    id: AgentId,
    name: String,
    is_online: bool,
}

impl From<TargetPreview> for PreviewView {
    fn from(preview: TargetPreview) -> Self {
        Self {
            matched_count: preview.matched_count,
            online_count: preview.online_count,
            agents: preview.agents.into_iter().map(MeantAgentView::from).collect(),
            unknown_ids: preview.unknown_ids,
        }
    }
}

impl From<Facts> for MeantAgentView {
    fn from(facts: Facts) -> Self {
        Self { id: facts.id, name: facts.name, is_online: facts.is_online }
    }
}

/// Preview which agents a target matches now, and how many of them are connected. Changes nothing.
///
/// An invalid target is refused with `invalid_target`. For an expression, `column` is the position
/// of the error.
#[utoipa::path(post, path = "/api/targets/preview", tag = "targets", request_body = TargetSpec,
    responses((status = 200, body = PreviewView), (status = 422, body = Problem)))]
async fn preview_target(
    State(state): State<AppState>,
    caller: Caller,
    Body(spec): Body<TargetSpec>,
) -> ApiResult<axum::Json<PreviewView>> {
    let preview = state.services.targets.preview(&caller, spec).await?;
    Ok(axum::Json(preview.into()))
}
