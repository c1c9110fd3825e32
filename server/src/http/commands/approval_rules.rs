//! `/api/approvals/rules`

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::commands::approval::ApprovalRule;
use crate::domain::ids::{ApprovalRuleId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::commands::approvals::NewApprovalRule;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_approval_rules, create_approval_rule))
        .routes(routes!(delete_approval_rule))
}

/// Work that matches all conditions of a rule waits until another person approves it.
#[derive(Debug, Serialize, ToSchema)]
struct ApprovalRuleView {
    id: ApprovalRuleId,
    name: String,
    /// At least one agent of the request matches this expression; null for any agent.
    target: Option<String>,
    /// With `ad_hoc` and `life_cycle`: what the rule is about. None of the three: everything.
    scripts: Vec<String>,
    ad_hoc: bool,
    life_cycle: bool,
    /// The request has more agents than this; null for any number.
    fan_out_above: Option<u32>,
    /// How long a request waits for a decision.
    wait_ms: u64,
    created_at: Timestamp,
    created_by: PrincipalId,
}

/// Every rule. A tenant has at most 100.
#[derive(Debug, Serialize, ToSchema)]
struct ApprovalRulesView {
    items: Vec<ApprovalRuleView>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateApprovalRule {
    name: String,
    /// An expression of `tag:` and `id:`. The rule holds if at least one agent of the request matches.
    /// Default: any agent.
    target: Option<String>,
    /// Scripts that the rule is about.
    #[serde(default)]
    scripts: Vec<String>,
    /// The rule is about ad-hoc commands. Default: false.
    #[serde(default)]
    ad_hoc: bool,
    /// The rule is about `restart`, `update`, `redeploy` and `shutdown`. Default: false. Without `scripts`,
    /// `ad_hoc` and `life_cycle`, the rule is about all of them and every script.
    #[serde(default)]
    life_cycle: bool,
    /// The rule holds for requests with more agents than this. Default: any number.
    fan_out_above: Option<u32>,
    /// How long a request waits for a decision: at most 30 days, default 24 h.
    wait_ms: Option<u64>,
}

impl From<ApprovalRule> for ApprovalRuleView {
    fn from(rule: ApprovalRule) -> Self {
        Self {
            id: rule.id,
            name: rule.name,
            target: rule.condition.target,
            scripts: rule.condition.scripts.into_iter().collect(),
            ad_hoc: rule.condition.ad_hoc,
            life_cycle: rule.condition.life_cycle,
            fan_out_above: rule.condition.fan_out_above,
            wait_ms: rule.wait_ms,
            created_at: rule.created_at,
            created_by: rule.created_by,
        }
    }
}

/// List the rules of approval, oldest first.
#[utoipa::path(get, path = "/api/approvals/rules", tag = "approvals",
    responses((status = 200, body = ApprovalRulesView)))]
async fn list_approval_rules(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<ApprovalRulesView>> {
    let rules = state.services.approvals.rules(&caller).await?;
    Ok(axum::Json(ApprovalRulesView { items: rules.into_iter().map(Into::into).collect() }))
}

/// Add a rule of approval. It holds for work that is submitted after this returns.
#[utoipa::path(post, path = "/api/approvals/rules", tag = "approvals", request_body = CreateApprovalRule,
    responses((status = 201, body = ApprovalRuleView), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create_approval_rule(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<CreateApprovalRule>,
) -> ApiResult<(StatusCode, axum::Json<ApprovalRuleView>)> {
    let new = NewApprovalRule {
        name: body.name,
        target: body.target,
        scripts: body.scripts,
        ad_hoc: body.ad_hoc,
        life_cycle: body.life_cycle,
        fan_out_above: body.fan_out_above,
        wait_ms: body.wait_ms,
    };
    let rule = state.services.approvals.create_rule(&caller, new).await?;
    Ok((StatusCode::CREATED, axum::Json(rule.into())))
}

/// Delete a rule of approval. Requests that it asked for still need their approval.
#[utoipa::path(delete, path = "/api/approvals/rules/{id}", tag = "approvals",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn delete_approval_rule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.approvals.delete_rule(&caller, ApprovalRuleId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
