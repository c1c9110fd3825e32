//! `/api/agents/{id}/scripts`

use axum::extract::State;
use muster_protocol::parameter::ANY;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::fleet::forbidden_commands::ForbiddenCommands;
use crate::domain::fleet::reported_manifest::ManifestInForce;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::Id;
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::stored_json;
use crate::services::access::caller::Caller;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_agent_scripts))
}

/// The scripts that a host allows.
#[derive(Debug, Serialize, ToSchema)]
struct ScriptsView {
    /// The entries of the manifest. `parameters` is a list, or `"any"`; without it the script
    /// accepts none.
    #[schema(value_type = Vec<Object>)]
    items: Value,
    /// Names of the scripts that accept any parameter. List their parameters in the manifest: a
    /// parameter is an environment variable, and can change what the script's programs do.
    scripts_with_any_parameters: Vec<String>,
    /// Which manifest of the host is in force.
    in_force: ManifestInForce,
    /// When the server first received the manifest in force, or first learned that there is none;
    /// `null` if the host has never reported one.
    in_force_since: Option<Timestamp>,
    /// Why the newest manifest file is not in force. The scripts above are permitted nevertheless.
    error: Option<String>,
    /// What the host's policy forbids the server: `restart`, `update`, `redeploy`, `shutdown`,
    /// `rekey`.
    forbidden_commands: Vec<String>,
    /// When the host last reported; `null` if it never has.
    reported_at: Option<Timestamp>,
}

/// List the scripts that an agent's host allows, as last reported.
#[utoipa::path(get, path = "/api/agents/{id}/scripts", tag = "agents",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ScriptsView), (status = 404, body = Problem)))]
async fn list_agent_scripts(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<ScriptsView>> {
    let view = match state.services.agents.manifest(&caller, AgentId(id)).await? {
        None => ScriptsView {
            items: Value::Array(Vec::new()),
            scripts_with_any_parameters: Vec::new(),
            in_force: ManifestInForce::None,
            in_force_since: None,
            error: None,
            forbidden_commands: Vec::new(),
            reported_at: None,
        },
        Some(row) => {
            let items = stored_json(&row.manifest)["scripts"].take();
            ScriptsView {
                scripts_with_any_parameters: scripts_with_any_parameters(&items),
                items,
                in_force: row.in_force,
                in_force_since: Some(row.in_force_since),
                error: row.error,
                forbidden_commands: ForbiddenCommands::stored(row.forbidden_commands.as_deref())
                    .names(),
                reported_at: Some(row.reported_at),
            }
        }
    };
    Ok(axum::Json(view))
}

fn scripts_with_any_parameters(scripts: &Value) -> Vec<String> {
    let any = |script: &&Value| script["parameters"] == ANY;
    let scripts = scripts.as_array().into_iter().flatten().filter(any);
    scripts.filter_map(|script| script["name"].as_str().map(str::to_owned)).collect()
}
