//! `/api/agents`

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use muster_protocol::identity::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::fleet::agent::{AgentLevel, MatchedBy, NameSource, Transport};
use crate::domain::ids::{AgentId, AgentKeyId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, Params, page, wait};
use crate::http::fleet::agent_history::{self, TelemetrySampleView};
use crate::http::fleet::facts::{self, FactValueView};
use crate::http::fleet::scripts;
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, stored_json};
use crate::services::access::caller::Caller;
use crate::services::commands::MAX_WAIT_MS;
use crate::services::fleet::agents::{AgentSnapshot, RequestedAgentChange};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_agents))
        .routes(routes!(list_connected_agents))
        .routes(routes!(resolve_agent))
        .routes(routes!(get_agent, update_agent, delete_agent))
        .routes(routes!(adopt_agent))
        .merge(scripts::routes())
        .merge(facts::routes())
        .merge(agent_history::routes())
}

/// The agent of one host.
#[derive(Debug, Serialize, ToSchema)]
struct AgentView {
    id: AgentId,
    name: String,
    name_source: NameSource,
    status: AgentStatus,
    level: AgentLevel,
    transport: Transport,
    hostname: String,
    ip: String,
    version: String,
    os: String,
    arch: String,
    /// What starts the agent on its host: `systemd`, `openrc`, `runit`, `cron`, `none` or `docker`; empty if
    /// the agent does not report it.
    service_manager: String,
    capabilities: Vec<String>,
    tags: Vec<String>,
    key_id: AgentKeyId,
    /// The key that a full agent proves its identity with: base64 of 32 bytes.
    public_key: Option<String>,
    /// `SHA256:…`, to compare with `muster-agent status` on the host.
    fingerprint: Option<String>,
    /// The fingerprint that a person accepted for this agent, until a host with it connects.
    next_fingerprint: Option<String>,
    /// Commands that the host allows the server to send.
    policy: Option<String>,
    max_executions: i32,
    /// A condition that needs a person's attention: `identity_conflict`, `name_conflict` or
    /// `key_pair_changed`.
    alert: Option<String>,
    /// A sentence about the alert: what happened, and what to do.
    alert_detail: Option<String>,
    connected_at: Timestamp,
    last_seen_at: Timestamp,
    created_at: Timestamp,
    /// The result of the latest request to update: `{outcome, from_version, to_version, code?,
    /// message, command_id?}`.
    #[schema(value_type = Option<Object>)]
    update: Option<Value>,
    /// When the agent reported that result.
    updated_at: Option<Timestamp>,
    /// The latest telemetry; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    telemetry: Option<TelemetrySampleView>,
    /// The facts that the request names with `facts`; only in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<BTreeMap<String, FactValueView>>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AgentStatus {
    Online,
    Offline,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateAgent {
    name: Option<String>,
    tags: Option<Vec<String>>,
}

impl From<AgentSnapshot> for AgentView {
    fn from(agent: AgentSnapshot) -> Self {
        let AgentSnapshot { record, is_connected } = agent;
        let public_key = record.public_key;
        let next_fingerprint = record.next_fingerprint.map(|accepted| accepted.to_string());
        Self {
            id: record.id,
            name: record.name,
            name_source: record.name_source,
            status: if is_connected { AgentStatus::Online } else { AgentStatus::Offline },
            level: record.level,
            transport: record.transport,
            hostname: record.hostname,
            ip: record.ip,
            version: record.version,
            os: record.os,
            arch: record.arch,
            service_manager: record.service_manager,
            capabilities: record.capabilities,
            tags: record.tags,
            key_id: record.key_id,
            public_key: public_key.map(|key| key.to_string()),
            fingerprint: public_key.map(|key| key.fingerprint().to_string()),
            next_fingerprint,
            policy: record.policy,
            max_executions: record.max_executions,
            alert: record.alert,
            alert_detail: record.alert_detail,
            connected_at: record.connected_at,
            last_seen_at: record.last_seen_at,
            created_at: record.created_at,
            update: record.update_result.as_deref().map(stored_json),
            updated_at: record.update_result_at,
            telemetry: None,
            facts: None,
        }
    }
}

/// Filters for agents.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AgentsParams {
    /// Only agents that this target expression matches now, such as `tag:web & status:offline`.
    expression: Option<String>,
    /// Names of facts that hosts report, separated by commas, 1 to 16: the items have them in
    /// `facts`.
    facts: Option<String>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Items per page, from 1 to 500. Default: 50.
    limit: Option<u64>,
}

/// List agents, oldest first.
#[utoipa::path(get, path = "/api/agents", tag = "agents", params(AgentsParams),
    responses((status = 200, body = PageView<AgentView>), (status = 422, body = Problem)))]
async fn list_agents(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<AgentsParams>,
) -> ApiResult<axum::Json<PageView<AgentView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let agents = &state.services.agents;
    let page = agents.list(&caller, params.expression, page).await?;
    let Some(names) = params.facts else { return Ok(axum::Json(page.map(AgentView::from).into())) };
    let ids: Vec<AgentId> = page.items.iter().map(|agent| agent.record.id).collect();
    let mut known = agents.facts_of(&caller, &ids, &names).await?;
    let page = page.map(|agent| {
        let own = known.remove(&agent.record.id).unwrap_or_default();
        AgentView { facts: Some(facts::views(own)), ..agent.into() }
    });
    Ok(axum::Json(page.into()))
}

/// Filters for connected agents.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ConnectedParams {
    /// Only agents with this name or hostname.
    name: Option<String>,
    /// With `name`: wait for a matching agent to connect, at most this long, in milliseconds (at
    /// most 60000).
    #[serde(default)]
    wait_ms: u64,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Items per page, from 1 to 500. Default: 50.
    limit: Option<u64>,
}

/// List connected agents. With `name` and `wait_ms` the request waits until one connects.
#[utoipa::path(get, path = "/api/agents/connected", tag = "agents", params(ConnectedParams),
    responses((status = 200, body = PageView<AgentView>)))]
async fn list_connected_agents(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<ConnectedParams>,
) -> ApiResult<axum::Json<PageView<AgentView>>> {
    let agents = &state.services.agents;
    let page = page(params.cursor.as_deref(), params.limit)?;
    let wait_ms = wait(params.wait_ms, MAX_WAIT_MS)?;
    let page = match params.name {
        Some(name) => agents.wait_connected(&caller, &name, wait_ms, page).await?,
        None => agents.list_connected(&caller, page).await?,
    };
    Ok(axum::Json(page.map(AgentView::from).into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ResolveParams {
    /// An id, or a whole name or hostname.
    name: String,
    /// True if the caller wants to send secrets. Names that only a host reported then do not match.
    #[serde(default)]
    with_secrets: bool,
}

/// The agent that a name identifies.
#[derive(Debug, Serialize, ToSchema)]
struct ResolvedAgentView {
    matched_by: MatchedBy,
    #[serde(flatten)]
    agent: AgentView,
}

/// Find the agent that a name identifies.
///
/// An id matches its agent. A name that a person gave wins over what hosts report. Otherwise the
/// reported names and hostnames are compared together. If several agents match, the answer is
/// `ambiguous_agent` with `candidates`. Beginnings of names never match.
#[utoipa::path(get, path = "/api/agents/resolve", tag = "agents", params(ResolveParams),
    responses((status = 200, body = ResolvedAgentView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn resolve_agent(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<ResolveParams>,
) -> ApiResult<axum::Json<ResolvedAgentView>> {
    let agents = &state.services.agents;
    let (agent, matched_by) = agents.resolve(&caller, &params.name, params.with_secrets).await?;
    Ok(axum::Json(ResolvedAgentView { matched_by, agent: agent.into() }))
}

/// Get one agent, with its latest telemetry.
#[utoipa::path(get, path = "/api/agents/{id}", tag = "agents",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AgentView), (status = 404, body = Problem)))]
async fn get_agent(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<AgentView>> {
    let (agent, newest) = state.services.agents.get(&caller, AgentId(id)).await?;
    let telemetry = newest.map(TelemetrySampleView::from);
    Ok(axum::Json(AgentView { telemetry, ..agent.into() }))
}

/// Rename or tag an agent, with a key without limits.
///
/// Tags with which the agent enters or leaves the target of a rule of approval or of an API key also need
/// `approvals:manage`.
#[utoipa::path(patch, path = "/api/agents/{id}", tag = "agents",
    params(("id" = uuid::Uuid, Path)), request_body = UpdateAgent,
    responses((status = 200, body = AgentView), (status = 404, body = Problem)))]
async fn update_agent(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<UpdateAgent>,
) -> ApiResult<axum::Json<AgentView>> {
    let change = RequestedAgentChange { name: body.name, tags: body.tags };
    let agent = state.services.agents.update(&caller, AgentId(id), change).await?;
    Ok(axum::Json(agent.into()))
}

/// Delete an agent. Its history stays. If the agent is still running, it may enrol again.
#[utoipa::path(delete, path = "/api/agents/{id}", tag = "agents",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn delete_agent(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.agents.delete(&caller, AgentId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AdoptAgent {
    /// `SHA256:…`, as `muster-agent status` prints it on the host. What the server shows may be the
    /// key pair of another host.
    #[schema(value_type = String)]
    fingerprint: Fingerprint,
}

/// Accept the new key pair of a reinstalled host as this agent's own.
///
/// The agent must be offline. The agent that the host was enrolled as is deleted, and the host
/// reconnects as this one. If no agent has the key pair yet, the next host that proves it with the
/// same agent key becomes this agent.
#[utoipa::path(post, path = "/api/agents/{id}/adopt", tag = "agents",
    params(("id" = uuid::Uuid, Path)), request_body = AdoptAgent,
    responses((status = 200, body = AgentView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn adopt_agent(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<AdoptAgent>,
) -> ApiResult<axum::Json<AgentView>> {
    let agent = state.services.agents.adopt(&caller, AgentId(id), body.fingerprint).await?;
    Ok(axum::Json(agent.into()))
}
