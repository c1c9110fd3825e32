//! `/api/agents/keys`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::CommandName;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::access::records::AgentKeyRecord;
use crate::domain::ids::AgentKeyId;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::commands::commands::{CommandBody, PingBody};
use crate::http::extract::{Body, Id, PageParams, Params};
use crate::http::origin::InstallOrigin;
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;
use crate::services::access::keys::agent_keys::{MadeAgentKey, NewAgentKey};
use crate::store::queries::AgentKeyChange;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_agent_key, list_agent_keys))
        .routes(routes!(get_agent_key, update_agent_key, delete_agent_key))
        .routes(routes!(regenerate_agent_key))
        .routes(routes!(ping_agent_of_key))
        .routes(routes!(command_agent_of_key))
}

/// An agent key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct AgentKeyView {
    id: AgentKeyId,
    name: String,
    /// The first characters of the secret.
    prefix: String,
    #[schema(value_type = Vec<String>)]
    permissions: Vec<String>,
    tags: Vec<String>,
    max_agents: i32,
    /// True if its holders may take over each other's offline agents by what they claim.
    trusts_holders: bool,
    status: KeyStatus,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    /// When the previous secret becomes invalid, after a regeneration with a grace period.
    previous_valid_until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum KeyStatus {
    Active,
    Disabled,
}

/// An agent key with its secret, which is only shown once.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedAgentKeyView {
    /// The secret, `mst_agent_…`. It can't be shown again.
    key: String,
    /// The install command for a host, with the secret in it. `null` if the server does not know an
    /// address at which no one else can read the key: set its `--public-url`.
    install_line: Option<String>,
    #[serde(flatten)]
    view: AgentKeyView,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateAgentKey {
    /// 1 to 128 characters.
    name: String,
    /// Commands that may be sent to its agents. Default: `ping info echo scripts execute`.
    #[schema(value_type = Option<Vec<String>>)]
    permissions: Option<Vec<CommandName>>,
    /// Tags for its agents, set when they enrol.
    #[serde(default)]
    tags: Vec<String>,
    /// Default: 1.
    max_agents: Option<i32>,
    /// A host with another key pair takes over the offline agent with its machine id, and basic agents
    /// are distinguished by their hostnames. For keys whose every holder is trusted. Default: false.
    #[serde(default)]
    trusts_holders: bool,
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateAgentKey {
    name: Option<String>,
    #[schema(value_type = Option<Vec<String>>)]
    permissions: Option<Vec<CommandName>>,
    tags: Option<Vec<String>>,
    max_agents: Option<i32>,
    trusts_holders: Option<bool>,
    status: Option<KeyStatus>,
    /// `null` removes the expiry.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Option<Option<Timestamp>>,
}

/// Distinguishes `null` from a missing field.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegenerateAgentKey {
    /// How long the old secret stays valid, at most seven days. With 0 it becomes invalid at once,
    /// and its sessions are closed.
    #[serde(default)]
    grace_ms: u64,
}

impl From<AgentKeyRecord> for AgentKeyView {
    fn from(row: AgentKeyRecord) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            permissions: row.permissions,
            tags: row.tags,
            max_agents: row.max_agents,
            trusts_holders: row.trusts_holders,
            status: if row.is_disabled { KeyStatus::Disabled } else { KeyStatus::Active },
            created_at: row.created_at,
            expires_at: row.expires_at,
            previous_valid_until: row.previous_valid_until,
        }
    }
}

impl CreatedAgentKeyView {
    fn new(made: MadeAgentKey, reached: &InstallOrigin) -> Self {
        let install_line = reached.install_line(&made.secret);
        Self { key: made.secret, install_line, view: made.row.into() }
    }
}

/// Create an agent key. Its secret is only shown in this response.
#[utoipa::path(post, path = "/api/agents/keys", tag = "agent keys", request_body = CreateAgentKey,
    responses((status = 201, body = CreatedAgentKeyView), (status = 422, body = Problem)))]
async fn create_agent_key(
    State(state): State<AppState>,
    caller: Caller,
    reached: InstallOrigin,
    Body(body): Body<CreateAgentKey>,
) -> ApiResult<Response> {
    let new = NewAgentKey {
        name: body.name,
        permissions: body.permissions,
        tags: body.tags,
        max_agents: body.max_agents,
        trusts_holders: body.trusts_holders,
        expires_at: body.expires_at,
    };
    let made = state.services.agent_keys.create(&caller, new).await?;
    let location = format!("/api/agents/keys/{}", made.row.id);
    let view = axum::Json(CreatedAgentKeyView::new(made, &reached));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], view).into_response())
}

/// List agent keys, oldest first.
#[utoipa::path(get, path = "/api/agents/keys", tag = "agent keys", params(PageParams),
    responses((status = 200, body = PageView<AgentKeyView>)))]
async fn list_agent_keys(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<AgentKeyView>>> {
    let page = state.services.agent_keys.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(AgentKeyView::from).into()))
}

/// Get one agent key.
#[utoipa::path(get, path = "/api/agents/keys/{id}", tag = "agent keys",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AgentKeyView), (status = 404, body = Problem)))]
async fn get_agent_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<AgentKeyView>> {
    let row = state.services.agent_keys.get(&caller, AgentKeyId(id)).await?;
    Ok(axum::Json(row.into()))
}

/// Change an agent key. Disabling it or setting an expiry closes its sessions when it takes effect.
#[utoipa::path(patch, path = "/api/agents/keys/{id}", tag = "agent keys",
    params(("id" = uuid::Uuid, Path)), request_body = UpdateAgentKey,
    responses((status = 200, body = AgentKeyView), (status = 404, body = Problem)))]
async fn update_agent_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<UpdateAgentKey>,
) -> ApiResult<axum::Json<AgentKeyView>> {
    let change = AgentKeyChange {
        name: body.name,
        permissions: body
            .permissions
            .map(|names| names.iter().map(|name| name.as_str().to_owned()).collect()),
        tags: body.tags,
        max_agents: body.max_agents,
        trusts_holders: body.trusts_holders,
        is_disabled: body.status.map(|status| matches!(status, KeyStatus::Disabled)),
        expires_at: body.expires_at,
    };
    let row = state.services.agent_keys.update(&caller, AgentKeyId(id), change).await?;
    Ok(axum::Json(row.into()))
}

/// Delete an agent key. Its sessions are closed, and its agents stay in the list.
#[utoipa::path(delete, path = "/api/agents/keys/{id}", tag = "agent keys",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn delete_agent_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.agent_keys.delete(&caller, AgentKeyId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace an agent key's secret.
#[utoipa::path(post, path = "/api/agents/keys/{id}/regenerate", tag = "agent keys",
    params(("id" = uuid::Uuid, Path)), request_body = RegenerateAgentKey,
    responses((status = 200, body = CreatedAgentKeyView), (status = 404, body = Problem)))]
async fn regenerate_agent_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    reached: InstallOrigin,
    Body(body): Body<RegenerateAgentKey>,
) -> ApiResult<axum::Json<CreatedAgentKeyView>> {
    let keys = &state.services.agent_keys;
    let made = keys.regenerate(&caller, AgentKeyId(id), body.grace_ms).await?;
    Ok(axum::Json(CreatedAgentKeyView::new(made, &reached)))
}

/// Ping the only agent of a key.
#[utoipa::path(post, path = "/api/agents/keys/{id}/ping", tag = "agent keys",
    params(("id" = uuid::Uuid, Path)), request_body = PingBody,
    responses((status = 200, body = crate::http::commands::commands::CommandResponseView), (status = 409, body = Problem), (status = 504, body = Problem)))]
async fn ping_agent_of_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<PingBody>,
) -> ApiResult<Response> {
    let request = CommandBody::from(body).into_request(None);
    let sent = state.services.commands.send_to_key(&caller, AgentKeyId(id), request).await?;
    Ok(crate::http::commands::commands::answer(sent))
}

/// Send a command to the only agent of a key.
#[utoipa::path(post, path = "/api/agents/keys/{id}/command", tag = "agent keys",
    params(("id" = uuid::Uuid, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = CommandBody,
    responses((status = 200, body = crate::http::commands::commands::CommandResponseView), (status = 202, body = crate::http::commands::commands::CommandView),
        (status = 403, body = Problem), (status = 409, body = Problem), (status = 504, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn command_agent_of_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: axum::http::HeaderMap,
    Body(body): Body<CommandBody>,
) -> ApiResult<Response> {
    let request = body.into_request(crate::http::extract::idempotency_key(&headers)?);
    let sent = state.services.commands.send_to_key(&caller, AgentKeyId(id), request).await?;
    Ok(crate::http::commands::commands::answer(sent))
}
