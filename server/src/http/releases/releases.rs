//! `/api/releases`

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use muster_protocol::release::{Platform, Program, Version};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::ids::{PrincipalId, ReleaseId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;
use crate::services::releases::{NewKeyChange, Release, ReleaseProgram, is_manager};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_releases, draft_release))
        .routes(routes!(change_release_key))
        .routes(routes!(get_release))
        .routes(routes!(publish_release))
        .routes(routes!(withdraw_release))
        .routes(routes!(upload_program))
}

/// A version of the programs for hosts, signed as a whole.
#[derive(Debug, Serialize, ToSchema)]
struct ReleaseView {
    id: ReleaseId,
    version: String,
    state: ReleaseState,
    /// A host that has run this release refuses versions below this one.
    floor: String,
    platforms: Vec<String>,
    /// Fingerprint of the key that signed it. Hosts pin this key.
    key_fingerprint: String,
    created_at: Timestamp,
    /// Only for callers with `releases:manage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<PrincipalId>,
    published_at: Option<Timestamp>,
    /// Only for callers with `releases:manage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    published_by: Option<PrincipalId>,
    withdrawn_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReleaseState {
    /// Not published yet.
    Draft,
    /// Hosts may install it.
    Published,
    /// Hosts no longer install it.
    Withdrawn,
}

/// A release with its programs.
#[derive(Debug, Serialize, ToSchema)]
struct ReleaseWithPrograms {
    #[serde(flatten)]
    release: ReleaseView,
    programs: Vec<ProgramView>,
}

/// One program of a release.
#[derive(Debug, Serialize, ToSchema)]
struct ProgramView {
    platform: String,
    name: &'static str,
    bytes: u64,
    sha256: String,
    /// True if the complete file is on the server.
    is_uploaded: bool,
}

impl ReleaseView {
    /// The release as this caller may see it.
    fn new(release: Release, caller: &Caller) -> Self {
        let is_manager = is_manager(caller);
        let Release { row, descriptor, fingerprint } = release;
        Self {
            id: row.id,
            state: match (row.published_at, row.withdrawn_at) {
                (_, Some(_)) => ReleaseState::Withdrawn,
                (None, None) => ReleaseState::Draft,
                (Some(_), None) => ReleaseState::Published,
            },
            version: row.version,
            floor: descriptor.floor.to_string(),
            platforms: descriptor.targets.keys().map(Platform::to_string).collect(),
            key_fingerprint: fingerprint,
            created_at: row.created_at,
            created_by: is_manager.then_some(row.created_by),
            published_at: row.published_at,
            published_by: row.published_by.filter(|_| is_manager),
            withdrawn_at: row.withdrawn_at,
        }
    }
}

impl From<ReleaseProgram> for ProgramView {
    fn from(program: ReleaseProgram) -> Self {
        Self {
            platform: program.platform.to_string(),
            name: program.file.name.file_name(),
            bytes: program.file.bytes,
            sha256: program.file.sha256,
            is_uploaded: program.is_uploaded,
        }
    }
}

/// A signed release.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DraftBody {
    /// The exact text of `release.json`.
    #[serde(rename = "manifest")]
    descriptor: String,
    /// The exact text of `release.sig`.
    signature: String,
}

/// A statement by the current key that another key signs releases from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyChangeBody {
    /// base64.
    old: String,
    /// base64.
    new: String,
    /// Signature by the old key, base64.
    signature: String,
}

/// A stored key change.
#[derive(Debug, Serialize, ToSchema)]
struct KeyChangeView {
    old_fingerprint: String,
    new_fingerprint: String,
}

/// A version in the path. A malformed version does not exist.
fn version(text: &str) -> ApiResult<Version> {
    text.parse().map_err(|_| Problem::not_found("release"))
}

/// List releases, newest first.
#[utoipa::path(get, path = "/api/releases", tag = "releases", params(PageParams),
    responses((status = 200, body = PageView<ReleaseView>)))]
async fn list_releases(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<ReleaseView>>> {
    let page = state.services.releases.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(|release| ReleaseView::new(release, &caller)).into()))
}

/// Draft a release from its signed descriptor. Upload its programs next, then publish it. Repeatable.
#[utoipa::path(post, path = "/api/releases", tag = "releases", request_body = DraftBody,
    responses((status = 201, body = ReleaseView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn draft_release(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<DraftBody>,
) -> ApiResult<(StatusCode, axum::Json<ReleaseView>)> {
    let release = state.services.releases.draft(&caller, body.descriptor, body.signature).await?;
    Ok((StatusCode::CREATED, axum::Json(ReleaseView::new(release, &caller))))
}

/// Get a release, and which of its programs are on the server.
#[utoipa::path(get, path = "/api/releases/{version}", tag = "releases", params(("version" = String, Path)),
    responses((status = 200, body = ReleaseWithPrograms), (status = 404, body = Problem)))]
async fn get_release(
    State(state): State<AppState>,
    caller: Caller,
    Path(text): Path<String>,
) -> ApiResult<axum::Json<ReleaseWithPrograms>> {
    let (release, programs) = state.services.releases.get(&caller, &version(&text)?).await?;
    let programs = programs.into_iter().map(ProgramView::from).collect();
    let release = ReleaseView::new(release, &caller);
    Ok(axum::Json(ReleaseWithPrograms { release, programs }))
}

/// Publish a release whose programs are all uploaded, so that hosts may install it. Repeatable.
#[utoipa::path(post, path = "/api/releases/{version}/publish", tag = "releases",
    params(("version" = String, Path)),
    responses((status = 200, body = ReleaseView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn publish_release(
    State(state): State<AppState>,
    caller: Caller,
    Path(text): Path<String>,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<ReleaseView>> {
    let release = state.services.releases.publish(&caller, &version(&text)?).await?;
    Ok(axum::Json(ReleaseView::new(release, &caller)))
}

/// Withdraw a release: hosts no longer install it. Repeatable; it can be published again.
#[utoipa::path(post, path = "/api/releases/{version}/withdraw", tag = "releases",
    params(("version" = String, Path)),
    responses((status = 200, body = ReleaseView), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn withdraw_release(
    State(state): State<AppState>,
    caller: Caller,
    Path(text): Path<String>,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<ReleaseView>> {
    let release = state.services.releases.withdraw(&caller, &version(&text)?).await?;
    Ok(axum::Json(ReleaseView::new(release, &caller)))
}

/// Upload a program of a release. Repeatable: a file that is on the server already is not stored
/// again.
#[utoipa::path(put, path = "/api/releases/{version}/{platform}/{program}", tag = "releases",
    params(("version" = String, Path), ("platform" = String, Path), ("program" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem), (status = 400, body = Problem)))]
async fn upload_program(
    State(state): State<AppState>,
    caller: Caller,
    Path((text, platform, program)): Path<(String, String, String)>,
    request: Request,
) -> ApiResult<StatusCode> {
    let unknown = || Problem::not_found("program in this release");
    let platform = Platform::parse(&platform).ok_or_else(unknown)?;
    let program = Program::named(&program).ok_or_else(unknown)?;
    let version = version(&text)?;
    let upload = state.services.releases.upload(&caller, &version, platform, program).await?;
    let Some(mut upload) = upload else { return Ok(StatusCode::NO_CONTENT) };
    // Limited by the size in the descriptor.
    let mut body = request.into_body().into_data_stream();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|_| Problem::malformed("the body is incomplete".into()))?;
        upload.write(&bytes).await?;
    }
    upload.finish().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Store a statement by the current key that another key signs releases from now on. Repeatable.
#[utoipa::path(post, path = "/api/releases/key-changes", tag = "releases", request_body = KeyChangeBody,
    responses((status = 201, body = KeyChangeView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn change_release_key(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<KeyChangeBody>,
) -> ApiResult<(StatusCode, axum::Json<KeyChangeView>)> {
    let new = NewKeyChange { old: body.old, new: body.new, signature: body.signature };
    let (old, new) = state.services.releases.change_key(&caller, new).await?;
    let view = KeyChangeView { old_fingerprint: old, new_fingerprint: new };
    Ok((StatusCode::CREATED, axum::Json(view)))
}
