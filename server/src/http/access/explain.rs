//! `/api/access/explain`

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::domain::access::principal::{ActorKind, Role};
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{AgentId, PrincipalId};
use crate::http::AppState;
use crate::http::extract::Params;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::commands::explanation::{
    AccessExplanation, AccessQuestion, RuleAnswer, RuleOutcome,
};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(explain_access))
}

/// What to explain.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExplainParams {
    /// Id of an API key or a member. Default: the caller.
    principal: Option<Uuid>,
    /// A scope such as `agents:write`, a command such as `restart`, `shell` for ad-hoc commands, or `run:` and
    /// the name of a script.
    operation: String,
    /// An expression that matches the agents, such as `tag:web`. Excludes `agent`.
    target: Option<String>,
    /// Id of one agent. Excludes `target`.
    agent: Option<Uuid>,
}

/// Whether a person or key may do something, and why.
#[derive(Debug, Serialize, ToSchema)]
struct ExplanationView {
    outcome: OutcomeView,
    /// The key or member that was asked about.
    principal: PrincipalId,
    kind: ActorKind,
    name: String,
    role: Role,
    operation: String,
    /// Agents that the target matches.
    agent_count: usize,
    /// The rules in the order in which a request is checked.
    rules: Vec<RuleView>,
    /// What is missing: the details of all refusals.
    missing: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RuleView {
    /// `validity`, `second_factor`, `scope`, `limits`, `ladder`, `approval` or `agent`.
    rule: &'static str,
    outcome: OutcomeView,
    /// The code with which the request would be refused.
    code: Option<&'static str>,
    detail: String,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OutcomeView {
    Allowed,
    NeedsConfirmation,
    NeedsApproval,
    Refused,
    /// It depends on the agents, and the question names none.
    Depends,
}

impl From<RuleOutcome> for OutcomeView {
    fn from(outcome: RuleOutcome) -> Self {
        match outcome {
            RuleOutcome::Allowed => Self::Allowed,
            RuleOutcome::NeedsConfirmation => Self::NeedsConfirmation,
            RuleOutcome::NeedsApproval => Self::NeedsApproval,
            RuleOutcome::Refused => Self::Refused,
            RuleOutcome::Depends => Self::Depends,
        }
    }
}

impl From<RuleAnswer> for RuleView {
    fn from(answer: RuleAnswer) -> Self {
        let RuleAnswer { rule, outcome, code, detail } = answer;
        Self { rule, outcome: outcome.into(), code, detail }
    }
}

impl From<AccessExplanation> for ExplanationView {
    fn from(explained: AccessExplanation) -> Self {
        let is_refused = |answer: &&RuleAnswer| answer.outcome == RuleOutcome::Refused;
        let missing = explained.answers.iter().filter(is_refused);
        Self {
            outcome: explained.outcome().into(),
            missing: missing.map(|answer| answer.detail.clone()).collect(),
            principal: explained.principal.id,
            kind: explained.principal.actor_kind(),
            name: explained.principal.name,
            role: explained.principal.role,
            operation: explained.operation,
            agent_count: explained.agent_count,
            rules: explained.answers.into_iter().map(RuleView::from).collect(),
        }
    }
}

/// Explain whether a key or a member may do something, by which rule, and what is missing.
///
/// The functions that decide about a request give the answer. Everybody may ask about themselves; to ask
/// about others, a key needs `api_keys:read`. Hosts are asked as by the preflight of a run: whether they have
/// the script, or allow ad-hoc commands. Parameters and files of a script are not checked.
#[utoipa::path(get, path = "/api/access/explain", tag = "API keys", params(ExplainParams),
    responses((status = 200, body = ExplanationView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn explain_access(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<ExplainParams>,
) -> ApiResult<axum::Json<ExplanationView>> {
    let target = match (params.target, params.agent) {
        (None, None) => None,
        (expression, agent) => {
            Some(TargetSpec { ids: agent.map(|id| vec![AgentId(id)]), tags: None, expression })
        }
    };
    let principal = params.principal.map(PrincipalId);
    let question = AccessQuestion { principal, operation: params.operation, target };
    let explained = state.services.commands.explain(&caller, question).await?;
    Ok(axum::Json(explained.into()))
}
