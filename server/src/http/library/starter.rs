//! `/api/scripts/starter`

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views::{ScriptParameterView, views};
use crate::http::AppState;
use crate::http::problem::ApiResult;
use crate::services::access::caller::Caller;
use crate::services::library::StarterScript;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_starter_scripts))
}

/// Scripts to start with.
#[derive(Debug, Serialize, ToSchema)]
struct StarterView {
    items: Vec<StarterScriptView>,
}

/// A script to start with. All fields but `is_in_library` can be sent to create it.
#[derive(Debug, Serialize, ToSchema)]
struct StarterScriptView {
    #[schema(example = "disk-report")]
    name: String,
    description: String,
    folder: String,
    tags: Vec<String>,
    interpreter: String,
    parameters: Vec<ScriptParameterView>,
    timeout_ms: Option<u64>,
    /// The text.
    body: String,
    /// The library has a script of this name, this one or another.
    is_in_library: bool,
}

impl From<StarterScript> for StarterScriptView {
    fn from(script: StarterScript) -> Self {
        Self {
            name: script.name.to_owned(),
            description: script.description,
            folder: script.folder,
            tags: script.tags,
            interpreter: script.interpreter,
            parameters: views(script.parameters),
            timeout_ms: script.timeout_ms,
            body: script.body.to_owned(),
            is_in_library: script.is_in_library,
        }
    }
}

/// List the scripts of the starter library. The server saves none of them by itself: create those that you
/// want.
#[utoipa::path(get, path = "/api/scripts/starter", tag = "library",
    responses((status = 200, body = StarterView)))]
async fn list_starter_scripts(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<StarterView>> {
    let scripts = state.services.library.starter(&caller).await?;
    Ok(axum::Json(StarterView { items: scripts.into_iter().map(Into::into).collect() }))
}
