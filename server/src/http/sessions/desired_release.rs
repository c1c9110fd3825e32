//! `GET /api/agents/desired-release`: the version that a host should run, for `muster-agent
//! update`.

use axum::extract::State;
use muster_protocol::release::Platform;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::AdmittedRequest;
use crate::domain::ids::AgentId;
use crate::http::AppState;
use crate::http::extract::Params;
use crate::http::problem::{ApiResult, Problem};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_desired_release))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DesiredReleaseParams {
    /// The agent's id on this server.
    agent_id: Option<Uuid>,
    /// Such as `linux-x86_64`. Default: the platform that the agent reported.
    platform: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct DesiredReleaseView {
    /// The desired version of the agent's group, or the newest release.
    version: String,
}

/// Get the version that an agent should run. For agents: needs an agent key.
#[utoipa::path(get, path = "/api/agents/desired-release", tag = "agent link", params(DesiredReleaseParams),
    responses((status = 200, body = DesiredReleaseView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem)))]
async fn get_desired_release(
    State(state): State<AppState>,
    AdmittedRequest(admission): AdmittedRequest,
    Params(params): Params<DesiredReleaseParams>,
) -> ApiResult<axum::Json<DesiredReleaseView>> {
    let agent_id = params.agent_id.map(AgentId);
    let platform = params.platform.as_deref().and_then(Platform::parse);
    let version =
        state.services.releases.desired_version(&admission.grant, agent_id, platform).await?;
    Ok(axum::Json(DesiredReleaseView { version: version.to_string() }))
}
