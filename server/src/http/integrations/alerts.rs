//! `/api/alerts`: conditions on agents and their telemetry.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use muster_protocol::object::Object;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{AgentId, AlertId, AlertRuleId, PrincipalId};
use crate::domain::integrations::alert::{AlertEndReason, AlertMetric, AlertRuleRecord};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, stored_json};
use crate::services::access::caller::Caller;
use crate::services::integrations::alerts::{AlertRuleRequest, AlertSnapshot};
use crate::store::queries::AlertFilter;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_alerts))
        .routes(routes!(list_alert_rules, create_alert_rule))
        .routes(routes!(get_alert_rule, update_alert_rule, delete_alert_rule))
        .routes(routes!(silence_alert_rule))
}

/// Changes to an alert rule. Missing fields keep their values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AlertRuleBody {
    name: Option<String>,
    metric: Option<AlertMetric>,
    /// `agents_online` and `certificate_days` open an alert below it, the others above it.
    #[schema(example = 90.0)]
    threshold: Option<f64>,
    /// The alert is resolved at this value, or beyond it: at most the threshold, for those two at
    /// least. `null` and the default are the threshold.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<f64>)]
    clear_threshold: Option<Option<f64>>,
    /// How long the condition holds before an alert opens: at most 24 h, default 5 min.
    for_ms: Option<u64>,
    /// How long the clear value holds before the alert is resolved: at most 24 h, default 0.
    clear_for_ms: Option<u64>,
    /// Default: all agents.
    #[schema(value_type = Option<TargetSpec>)]
    target: Option<Object<TargetSpec>>,
    /// Default: true. Disabling a rule resolves its open alerts.
    is_enabled: Option<bool>,
}

/// When a silence ends.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SilenceBody {
    /// At most 366 days from now. Without it the silence ends.
    until: Option<Timestamp>,
}

/// A rule that opens alerts.
#[derive(Debug, Serialize, ToSchema)]
struct AlertRuleView {
    id: AlertRuleId,
    name: String,
    metric: AlertMetric,
    threshold: f64,
    clear_threshold: f64,
    for_ms: u64,
    clear_for_ms: u64,
    #[schema(value_type = TargetSpec)]
    target: Value,
    is_enabled: bool,
    /// No alert opens before.
    silenced_until: Option<Timestamp>,
    created_by: PrincipalId,
    created_at: Timestamp,
    changed_at: Timestamp,
    /// When it was last checked; when it was created, before the first check.
    checked_at: Timestamp,
}

/// An alert.
#[derive(Debug, Serialize, ToSchema)]
struct AlertView {
    id: AlertId,
    rule_id: AlertRuleId,
    /// As it was when the alert opened.
    rule_name: String,
    /// The agent with the value; `null` for `agents_online`.
    agent_id: Option<AgentId>,
    /// Its name now.
    agent_name: Option<String>,
    metric: AlertMetric,
    threshold: f64,
    /// The value with which it opened.
    value: f64,
    opened_at: Timestamp,
    /// `null` while it is open.
    resolved_at: Option<Timestamp>,
    /// Why it is resolved.
    end_reason: Option<AlertEndReason>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AlertsParams {
    cursor: Option<String>,
    limit: Option<u64>,
    /// `true`: only open alerts; `false`: only resolved ones.
    is_open: Option<bool>,
    /// Only alerts of this rule.
    #[param(value_type = Option<uuid::Uuid>)]
    rule_id: Option<AlertRuleId>,
}

/// Distinguishes `null` from a missing field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<AlertRuleBody> for AlertRuleRequest {
    fn from(body: AlertRuleBody) -> Self {
        Self {
            name: body.name,
            metric: body.metric,
            threshold: body.threshold,
            clear_threshold: body.clear_threshold,
            for_ms: body.for_ms,
            clear_for_ms: body.clear_for_ms,
            target: body.target.map(|target| target.0),
            is_enabled: body.is_enabled,
        }
    }
}

impl From<AlertRuleRecord> for AlertRuleView {
    fn from(row: AlertRuleRecord) -> Self {
        Self {
            id: row.id,
            name: row.name,
            metric: row.condition.metric,
            threshold: row.condition.threshold,
            clear_threshold: row.condition.clear_threshold,
            for_ms: row.condition.for_ms,
            clear_for_ms: row.condition.clear_for_ms,
            target: stored_json(&row.target),
            is_enabled: row.is_enabled,
            silenced_until: row.silenced_until,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
            checked_at: row.checked_at,
        }
    }
}

impl From<AlertSnapshot> for AlertView {
    fn from(AlertSnapshot { row, agent_name }: AlertSnapshot) -> Self {
        Self {
            id: row.id,
            rule_id: row.rule_id,
            rule_name: row.rule_name,
            agent_id: row.agent_id,
            agent_name,
            metric: row.metric,
            threshold: row.threshold,
            value: row.value,
            opened_at: row.opened_at,
            resolved_at: row.resolved_at,
            end_reason: row.end_reason,
        }
    }
}

/// List alerts, newest first.
#[utoipa::path(get, path = "/api/alerts", tag = "alerts", params(AlertsParams),
    responses((status = 200, body = PageView<AlertView>)))]
async fn list_alerts(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<AlertsParams>,
) -> ApiResult<axum::Json<PageView<AlertView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let filter = AlertFilter { is_open: params.is_open, rule_id: params.rule_id };
    let found = state.services.alerts.list(&caller, filter, page).await?;
    Ok(axum::Json(found.map(AlertView::from).into()))
}

/// List alert rules, oldest first.
#[utoipa::path(get, path = "/api/alerts/rules", tag = "alerts", params(PageParams),
    responses((status = 200, body = PageView<AlertRuleView>)))]
async fn list_alert_rules(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<AlertRuleView>>> {
    let rules = state.services.alerts.rules(&caller, params.read()?).await?;
    Ok(axum::Json(rules.map(AlertRuleView::from).into()))
}

/// Create an alert rule. `name`, `metric` and `threshold` are required. It is checked at once.
#[utoipa::path(post, path = "/api/alerts/rules", tag = "alerts", request_body = AlertRuleBody,
    responses((status = 201, body = AlertRuleView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create_alert_rule(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<AlertRuleBody>,
) -> ApiResult<Response> {
    let rule = state.services.alerts.create(&caller, body.into()).await?;
    let location = [(header::LOCATION, format!("/api/alerts/rules/{}", rule.id))];
    Ok((StatusCode::CREATED, location, axum::Json(AlertRuleView::from(rule))).into_response())
}

/// Get an alert rule.
#[utoipa::path(get, path = "/api/alerts/rules/{id}", tag = "alerts", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AlertRuleView), (status = 404, body = Problem)))]
async fn get_alert_rule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<AlertRuleView>> {
    Ok(axum::Json(state.services.alerts.rule(&caller, AlertRuleId(id)).await?.into()))
}

/// Change an alert rule. Another metric, and disabling it, resolve its open alerts.
#[utoipa::path(patch, path = "/api/alerts/rules/{id}", tag = "alerts", params(("id" = uuid::Uuid, Path)),
    request_body = AlertRuleBody,
    responses((status = 200, body = AlertRuleView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_alert_rule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<AlertRuleBody>,
) -> ApiResult<axum::Json<AlertRuleView>> {
    let alerts = &state.services.alerts;
    Ok(axum::Json(alerts.update(&caller, AlertRuleId(id), body.into()).await?.into()))
}

/// Delete an alert rule with its alerts. Open ones are resolved before.
#[utoipa::path(delete, path = "/api/alerts/rules/{id}", tag = "alerts", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn delete_alert_rule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.alerts.delete(&caller, AlertRuleId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Open no alerts of a rule until an instant. Open alerts are resolved as always. Repeatable.
#[utoipa::path(post, path = "/api/alerts/rules/{id}/silence", tag = "alerts",
    params(("id" = uuid::Uuid, Path)), request_body = SilenceBody,
    responses((status = 200, body = AlertRuleView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn silence_alert_rule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<SilenceBody>,
) -> ApiResult<axum::Json<AlertRuleView>> {
    let alerts = &state.services.alerts;
    Ok(axum::Json(alerts.silence(&caller, AlertRuleId(id), body.until).await?.into()))
}
