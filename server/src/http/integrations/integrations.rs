//! `/api/integrations`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::integration_views::{IntegrationBody, IntegrationDeliveryView, IntegrationView};
use crate::domain::ids::{IntegrationId, WebhookDeliveryId};
use crate::domain::integrations::records::WebhookAttempt;
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id, Ids, PageParams, Params, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_integrations, create_integration))
        .routes(routes!(get_integration, update_integration, delete_integration))
        .routes(routes!(test_integration))
        .routes(routes!(list_integration_deliveries))
        .routes(routes!(resend_integration_delivery))
}

/// List integrations, oldest first.
#[utoipa::path(get, path = "/api/integrations", tag = "integrations", params(PageParams),
    responses((status = 200, body = PageView<IntegrationView>)))]
async fn list_integrations(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<IntegrationView>>> {
    let page = state.services.integrations.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(|row| IntegrationView::new(row, &caller)).into()))
}

/// Create an integration. `kind`, `name`, `settings` and `event_types` are required.
#[utoipa::path(post, path = "/api/integrations", tag = "integrations", request_body = IntegrationBody,
    responses((status = 201, body = IntegrationView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create_integration(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<IntegrationBody>,
) -> ApiResult<Response> {
    let created = state.services.integrations.create(&caller, body.into()).await?;
    let location = [(header::LOCATION, format!("/api/integrations/{}", created.id))];
    let view = axum::Json(IntegrationView::new(created, &caller));
    Ok((StatusCode::CREATED, location, view).into_response())
}

/// Get an integration. Addresses and keys are never shown.
#[utoipa::path(get, path = "/api/integrations/{id}", tag = "integrations", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = IntegrationView), (status = 404, body = Problem)))]
async fn get_integration(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<IntegrationView>> {
    let found = state.services.integrations.get(&caller, IntegrationId(id)).await?;
    Ok(axum::Json(IntegrationView::new(found, &caller)))
}

/// Change an integration. `settings` replaces all settings. Disabling it ends what waits, which can be
/// sent again later.
#[utoipa::path(patch, path = "/api/integrations/{id}", tag = "integrations", params(("id" = uuid::Uuid, Path)),
    request_body = IntegrationBody,
    responses((status = 200, body = IntegrationView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_integration(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<IntegrationBody>,
) -> ApiResult<axum::Json<IntegrationView>> {
    let service = &state.services.integrations;
    let changed = service.update(&caller, IntegrationId(id), body.into()).await?;
    Ok(axum::Json(IntegrationView::new(changed, &caller)))
}

/// Delete an integration with its deliveries.
#[utoipa::path(delete, path = "/api/integrations/{id}", tag = "integrations", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn delete_integration(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.integrations.delete(&caller, IntegrationId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a test message now, past the queue, and show how the receiver answered.
#[utoipa::path(post, path = "/api/integrations/{id}/test", tag = "integrations", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = WebhookAttempt), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn test_integration(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<WebhookAttempt>> {
    Ok(axum::Json(state.services.integrations.test(&caller, IntegrationId(id)).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct IntegrationDeliveriesParams {
    cursor: Option<String>,
    limit: Option<u64>,
    /// Only deliveries in this state.
    #[param(inline)]
    state: Option<WebhookDeliveryState>,
}

/// List the deliveries of an integration, newest first.
#[utoipa::path(get, path = "/api/integrations/{id}/deliveries", tag = "integrations",
    params(("id" = uuid::Uuid, Path), IntegrationDeliveriesParams),
    responses((status = 200, body = PageView<IntegrationDeliveryView>), (status = 404, body = Problem)))]
async fn list_integration_deliveries(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<IntegrationDeliveriesParams>,
) -> ApiResult<axum::Json<PageView<IntegrationDeliveryView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let service = &state.services.integrations;
    let found = service.messages(&caller, IntegrationId(id), params.state, page).await?;
    Ok(axum::Json(found.map(IntegrationDeliveryView::from).into()))
}

/// Send a delivery again under the same id, with retries for another day. Repeatable.
#[utoipa::path(post, path = "/api/integrations/{id}/deliveries/{delivery_id}/resend", tag = "integrations",
    params(("id" = uuid::Uuid, Path), ("delivery_id" = uuid::Uuid, Path)),
    responses((status = 202, body = IntegrationDeliveryView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn resend_integration_delivery(
    State(state): State<AppState>,
    caller: Caller,
    Ids(id, delivery_id): Ids,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<(StatusCode, axum::Json<IntegrationDeliveryView>)> {
    let (id, delivery_id) = (IntegrationId(id), WebhookDeliveryId(delivery_id));
    let row = state.services.integrations.resend(&caller, id, delivery_id).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(row.into())))
}
