//! `/api/hooks`, and `/hooks/{id}`, to which other programs deliver.

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use muster_protocol::limits::MAX_FRAME_BYTES;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::hook_views::{
    DeliveredView, HookBody, HookDeliveryView, HookView, NewHookView, TestHookBody, TestedHookView,
};
use crate::domain::ids::HookId;
use crate::domain::schedules::hook::proof::PresentedDelivery;
use crate::http::AppState;
use crate::http::body_bytes::uncounted_bytes;
use crate::http::extract::{
    Body, Empty, Id, PageParams, Params, is_json, unknown_client, unread_body,
};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_hooks, create_hook))
        .routes(routes!(get_hook, update_hook, delete_hook))
        .routes(routes!(rotate_hook))
        .routes(routes!(test_hook))
        .routes(routes!(list_hook_deliveries))
        .routes(routes!(deliver_hook))
}

/// List hooks, oldest first.
#[utoipa::path(get, path = "/api/hooks", tag = "hooks", params(PageParams),
    responses((status = 200, body = PageView<HookView>)))]
async fn list_hooks(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<HookView>>> {
    let page = state.services.hooks.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(HookView::from).into()))
}

/// Create a hook. `name`, `authentication` and `job` are required. Its jobs run with the rights of the
/// caller, who must be able to submit the job. The answer shows the secret once.
#[utoipa::path(post, path = "/api/hooks", tag = "hooks", request_body = HookBody,
    responses((status = 201, body = NewHookView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create_hook(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<HookBody>,
) -> ApiResult<Response> {
    let new = state.services.hooks.create(&caller, body.into()).await?;
    let location = [(header::LOCATION, format!("/api/hooks/{}", new.hook.row.id))];
    Ok((StatusCode::CREATED, location, axum::Json(NewHookView::from(new))).into_response())
}

/// Get a hook.
#[utoipa::path(get, path = "/api/hooks/{id}", tag = "hooks", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = HookView), (status = 404, body = Problem)))]
async fn get_hook(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<HookView>> {
    Ok(axum::Json(state.services.hooks.get(&caller, HookId(id)).await?.into()))
}

/// Change a hook. The caller becomes its owner, with whose rights its jobs run, unless it is only renamed
/// or disabled.
#[utoipa::path(patch, path = "/api/hooks/{id}", tag = "hooks", params(("id" = uuid::Uuid, Path)),
    request_body = HookBody,
    responses((status = 200, body = HookView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_hook(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<HookBody>,
) -> ApiResult<axum::Json<HookView>> {
    Ok(axum::Json(state.services.hooks.update(&caller, HookId(id), body.into()).await?.into()))
}

/// Delete a hook with its deliveries. Its jobs stay.
#[utoipa::path(delete, path = "/api/hooks/{id}", tag = "hooks", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn delete_hook(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.hooks.delete(&caller, HookId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace the secret of a hook. The old one is not valid any more. The answer shows the new one once.
#[utoipa::path(post, path = "/api/hooks/{id}/rotate", tag = "hooks", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = NewHookView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn rotate_hook(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<NewHookView>> {
    Ok(axum::Json(state.services.hooks.rotate(&caller, HookId(id)).await?.into()))
}

/// Test a hook with a body, as a delivery would, with the rights of the caller.
#[utoipa::path(post, path = "/api/hooks/{id}/test", tag = "hooks", params(("id" = uuid::Uuid, Path)),
    request_body = TestHookBody,
    responses((status = 200, body = TestedHookView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn test_hook(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<TestHookBody>,
) -> ApiResult<axum::Json<TestedHookView>> {
    let hooks = &state.services.hooks;
    let tested = hooks.test(&caller, HookId(id), &body.body, body.dry_run).await?;
    Ok(axum::Json(tested.into()))
}

/// List the deliveries to a hook, newest first.
#[utoipa::path(get, path = "/api/hooks/{id}/deliveries", tag = "hooks",
    params(("id" = uuid::Uuid, Path), PageParams),
    responses((status = 200, body = PageView<HookDeliveryView>), (status = 404, body = Problem)))]
async fn list_hook_deliveries(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<HookDeliveryView>>> {
    let page = state.services.hooks.deliveries(&caller, HookId(id), params.read()?).await?;
    Ok(axum::Json(page.map(HookDeliveryView::from).into()))
}

/// Deliver to a hook. Any JSON is a valid body. The sender proves that it knows the secret of the hook, by a
/// signature or a bearer header as the hook says; the address alone starts nothing. A repeated delivery gets
/// the same job.
#[utoipa::path(post, path = "/hooks/{id}", tag = "hooks", security(()),
    params(("id" = uuid::Uuid, Path), ("Authorization" = Option<String>, Header),
        ("Webhook-Id" = Option<String>, Header), ("Webhook-Timestamp" = Option<String>, Header),
        ("Webhook-Signature" = Option<String>, Header), ("X-Hub-Signature-256" = Option<String>, Header),
        ("X-GitHub-Event" = Option<String>, Header), ("Idempotency-Key" = Option<String>, Header)),
    request_body = serde_json::Value,
    responses((status = 202, body = DeliveredView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem)))]
async fn deliver_hook(
    State(state): State<AppState>,
    Id(id): Id,
    request: Request,
) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    let client = unknown_client(&parts);
    state.services.hooks.admit(&client)?;
    let headers = parts.headers.clone();
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| !is_json(kind)) {
        return Err(Problem::media_type("application/json"));
    }
    let request = Request::from_parts(parts, body);
    // Held until the delivery is decided.
    let _permit = state.body_bytes.acquire(None, uncounted_bytes(&request)).await?;
    let body = Bytes::from_request(request, &state)
        .await
        .map_err(|rejection| unread_body(&rejection, MAX_FRAME_BYTES))?;
    let presented = presented(&headers, &body);
    let delivered = state.services.hooks.deliver(&client, HookId(id), presented).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(DeliveredView::from(delivered))).into_response())
}

fn presented<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> PresentedDelivery<'a> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    PresentedDelivery {
        authorization: text("authorization"),
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
        github_signature: text("x-hub-signature-256"),
        github_event: text("x-github-event"),
        idempotency_key: text("idempotency-key"),
        body,
    }
}
