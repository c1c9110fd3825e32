//! `/api/access/ladder`

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::commands::ladder::{Ladder, LadderDemand, LadderStep};
use crate::http::AppState;
use crate::http::extract::Body;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_ladder, set_ladder))
}

/// A step holds for work that reaches at least this many agents.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LadderStepView {
    /// Only agents with this tag count, such as `critical`. Default: all agents.
    #[serde(default)]
    tag: Option<String>,
    /// At least 1.
    from_agents: u32,
    /// `confirm`: the request repeats the number of its agents in `confirm_agent_count`. `approve`:
    /// another person approves it. `refuse`: it is refused.
    demand: LadderDemand,
}

/// What work needs by its reach. Of all steps that hold, the strictest decides.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LadderView {
    /// At most 20, and each pair of `tag` and `from_agents` once.
    steps: Vec<LadderStepView>,
}

impl From<Ladder> for LadderView {
    fn from(ladder: Ladder) -> Self {
        let view = |step: LadderStep| LadderStepView {
            tag: step.tag,
            from_agents: step.from_agents,
            demand: step.demand,
        };
        Self { steps: ladder.0.into_iter().map(view).collect() }
    }
}

impl From<LadderView> for Ladder {
    fn from(view: LadderView) -> Self {
        let step = |step: LadderStepView| LadderStep {
            tag: step.tag,
            from_agents: step.from_agents,
            demand: step.demand,
        };
        Self(view.steps.into_iter().map(step).collect())
    }
}

/// Get the ladder: what work needs by the number and the tags of its agents.
#[utoipa::path(get, path = "/api/access/ladder", tag = "approvals",
    responses((status = 200, body = LadderView), (status = 403, body = Problem)))]
async fn get_ladder(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<LadderView>> {
    Ok(axum::Json(state.services.approvals.ladder(&caller).await?.into()))
}

/// Replace the ladder. It holds for work that is submitted after this returns.
#[utoipa::path(put, path = "/api/access/ladder", tag = "approvals", request_body = LadderView,
    responses((status = 200, body = LadderView), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn set_ladder(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<LadderView>,
) -> ApiResult<axum::Json<LadderView>> {
    Ok(axum::Json(state.services.approvals.set_ladder(&caller, body.into()).await?.into()))
}
