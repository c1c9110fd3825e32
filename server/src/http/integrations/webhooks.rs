//! `/api/webhooks`

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::ids::{JobId, WebhookDeliveryId};
use crate::domain::integrations::records::{WebhookAttempt, WebhookDeliveryRecord};
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id, Params, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, shown_webhook};
use crate::services::access::caller::Caller;
use crate::store::queries::WebhookDeliveryFilter;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_deliveries))
        .routes(routes!(get_delivery))
        .routes(routes!(resend_delivery))
        .routes(routes!(show_secret))
        .routes(routes!(rotate_secrets))
}

/// A webhook delivery: one message and its state.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookDeliveryView {
    /// The `webhook-id` of every attempt.
    id: WebhookDeliveryId,
    #[schema(value_type = JobId)]
    job_id: Option<JobId>,
    /// `job.finished`.
    event: String,
    /// Without the query string. Callers without `commands:manage` or `webhooks:write` see the host.
    url: String,
    state: WebhookDeliveryState,
    /// All attempts, including those that are no longer stored.
    attempt_count: i32,
    created_at: Timestamp,
    /// When the next attempt is made.
    due_at: Option<Timestamp>,
    /// No attempt is made after this time.
    give_up_at: Timestamp,
    finished_at: Option<Timestamp>,
    /// The newest attempt, if there is one.
    last_attempt: Option<WebhookAttempt>,
}

/// A delivery with its newest attempts.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookDeliveryWithAttempts {
    #[serde(flatten)]
    view: WebhookDeliveryView,
    /// The newest 20, oldest first.
    attempts: Vec<WebhookAttempt>,
}

impl WebhookDeliveryView {
    /// The delivery as this caller may see it.
    fn new(mut row: WebhookDeliveryRecord, caller: &Caller) -> Self {
        Self {
            id: row.id,
            job_id: row.job_id,
            event: row.event,
            url: shown_webhook(&row.url, caller, false),
            state: row.state,
            attempt_count: row.attempt_count,
            created_at: row.created_at,
            due_at: (row.state == WebhookDeliveryState::Pending).then_some(row.due_at),
            give_up_at: row.give_up_at,
            finished_at: row.finished_at,
            last_attempt: row.attempts.pop(),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WebhookDeliveriesParams {
    cursor: Option<String>,
    limit: Option<u64>,
    /// Only deliveries of this job.
    job_id: Option<uuid::Uuid>,
    /// Only deliveries in this state.
    #[param(inline)]
    state: Option<WebhookDeliveryState>,
}

/// List webhook deliveries, newest first.
#[utoipa::path(get, path = "/api/webhooks/deliveries", tag = "webhooks", params(WebhookDeliveriesParams),
    responses((status = 200, body = PageView<WebhookDeliveryView>)))]
async fn list_deliveries(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<WebhookDeliveriesParams>,
) -> ApiResult<axum::Json<PageView<WebhookDeliveryView>>> {
    let filter = WebhookDeliveryFilter { job_id: params.job_id.map(JobId), state: params.state };
    let page = page(params.cursor.as_deref(), params.limit)?;
    let deliveries = state.services.webhooks.list(&caller, filter, page).await?;
    Ok(axum::Json(deliveries.map(|row| WebhookDeliveryView::new(row, &caller)).into()))
}

/// Get one webhook delivery, with its attempts.
#[utoipa::path(get, path = "/api/webhooks/deliveries/{id}", tag = "webhooks",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = WebhookDeliveryWithAttempts), (status = 404, body = Problem)))]
async fn get_delivery(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<WebhookDeliveryWithAttempts>> {
    let row = state.services.webhooks.get(&caller, WebhookDeliveryId(id)).await?;
    let attempts = row.attempts.clone();
    Ok(axum::Json(WebhookDeliveryWithAttempts {
        view: WebhookDeliveryView::new(row, &caller),
        attempts,
    }))
}

/// Send a webhook again under the same id, with retries for another day. Repeatable.
#[utoipa::path(post, path = "/api/webhooks/deliveries/{id}/resend", tag = "webhooks",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 202, body = WebhookDeliveryView), (status = 404, body = Problem)))]
async fn resend_delivery(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<(StatusCode, axum::Json<WebhookDeliveryView>)> {
    let row = state.services.webhooks.resend(&caller, WebhookDeliveryId(id)).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(WebhookDeliveryView::new(row, &caller))))
}

/// The URL of a webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SecretBody {
    /// Exactly as the job has it.
    url: String,
}

/// The secret that signs messages to a URL.
#[derive(Debug, Serialize, ToSchema)]
struct SecretView {
    /// `whsec_…`, in the format of Standard Webhooks libraries.
    secret: String,
}

/// Show the secret that signs messages to a URL. Each URL has its own.
///
/// This is a POST, so that the URL does not appear in access logs. The request is audited.
#[utoipa::path(post, path = "/api/webhooks/secret", tag = "webhooks", request_body = SecretBody,
    responses((status = 200, body = SecretView), (status = 403, body = Problem), (status = 422, body = Problem), (status = 409, body = Problem)))]
async fn show_secret(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<SecretBody>,
) -> ApiResult<axum::Json<SecretView>> {
    let shown = state.services.webhooks.secret(&caller, &body.url).await?;
    Ok(axum::Json(SecretView { secret: shown.secret.to_string() }))
}

/// The secrets of all URLs were rotated.
#[derive(Debug, Serialize, ToSchema)]
struct RotatedSecretView {
    rotated_at: Timestamp,
    /// Until then messages also carry the signature of the previous secrets.
    previous_valid_until: Timestamp,
}

/// Rotate the secrets of all URLs. For a day messages also carry the signature of the previous
/// secrets.
#[utoipa::path(post, path = "/api/webhooks/secret/rotate", tag = "webhooks",
    responses((status = 200, body = RotatedSecretView), (status = 403, body = Problem)))]
async fn rotate_secrets(
    State(state): State<AppState>,
    caller: Caller,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<RotatedSecretView>> {
    let rotated = state.services.webhooks.rotate(&caller).await?;
    let previous_valid_until = rotated.previous_until;
    Ok(axum::Json(RotatedSecretView { rotated_at: rotated.at, previous_valid_until }))
}
