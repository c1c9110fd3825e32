//! `GET /api/agents/desired-release`: which version this host should run, for an owner who asks there.

use axum::extract::State;
use muster_protocol::release::Platform;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::Admitted;
use crate::domain::ids::AgentId;
use crate::http::AppState;
use crate::http::extract::Params;
use crate::http::problem::{ApiResult, Problem};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_wanted_release))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WantedParams {
    /// The id that the server has given to the agent.
    agent_id: Option<Uuid>,
    /// Such as `linux-x86_64`; what the agent has said of itself if it is left out.
    platform: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct DesiredReleaseView {
    /// What the agent's group wants, else the newest release.
    version: String,
}

/// Say which version an agent should run. Meant for agents: takes an agent key.
#[utoipa::path(get, path = "/api/agents/desired-release", tag = "agent link", params(WantedParams),
    responses((status = 200, body = DesiredReleaseView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem)))]
async fn get_wanted_release(
    State(state): State<AppState>,
    Admitted(admission): Admitted,
    Params(params): Params<WantedParams>,
) -> ApiResult<axum::Json<DesiredReleaseView>> {
    let agent_id = params.agent_id.map(AgentId);
    let platform = params.platform.as_deref().and_then(Platform::parse);
    let wanted = state.services.releases.wanted(&admission.grant, agent_id, platform).await?;
    Ok(axum::Json(DesiredReleaseView { version: wanted.to_string() }))
}
