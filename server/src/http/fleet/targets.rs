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
use crate::services::fleet::targets::Preview;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(preview_target))
}

/// Who a target means at this moment.
#[derive(Debug, Serialize, ToSchema)]
struct PreviewView {
    /// Agents that are meant.
    matched_count: usize,
    /// Of these, agents that are connected.
    online_count: usize,
    /// The first 50 of them by name.
    agents: Vec<MeantAgentView>,
    /// Ids that the target names and that no agent has.
    unknown_ids: Vec<AgentId>,
}

/// An agent that a target means.
#[derive(Debug, Serialize, ToSchema)]
struct MeantAgentView {
    id: AgentId,
    name: String,
    is_online: bool,
}

impl From<Preview> for PreviewView {
    fn from(preview: Preview) -> Self {
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

/// Say which agents a target means now, and who of them is connected. Nothing is done with them.
///
/// A target that can't be meant is `invalid_target`; for an expression, `column` says where.
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
