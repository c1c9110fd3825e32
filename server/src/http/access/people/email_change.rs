//! `/api/me/email`

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::Body;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(request_email_change)).routes(routes!(change_email))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RequestEmailChange {
    /// The new address.
    email: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeEmail {
    /// The six digits of the mail.
    code: String,
}

/// A new address that waits for its code.
#[derive(Debug, Serialize, ToSchema)]
struct EmailChangeView {
    /// When the code expires.
    expires_at: Timestamp,
}

/// Request another address for the person. A code of six digits is sent to it. Only for a person who gave
/// the password in the last 15 minutes.
///
/// The answer does not show whether another person has the address: then that person gets a notice instead.
/// Three requests a minute are allowed.
#[utoipa::path(post, path = "/api/me/email", tag = "accounts", request_body = RequestEmailChange,
    responses((status = 202, body = EmailChangeView), (status = 409, body = Problem)))]
async fn request_email_change(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<RequestEmailChange>,
) -> ApiResult<(StatusCode, axum::Json<EmailChangeView>)> {
    let expires_at = state.services.accounts.email_changes.request(&caller, &body.email).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(EmailChangeView { expires_at })))
}

/// Change the address with the code of the mail, which is valid for 10 minutes. Five codes may be tried
/// within an hour. The old address gets a notice.
#[utoipa::path(post, path = "/api/me/email/verify", tag = "accounts", request_body = ChangeEmail,
    responses((status = 204)))]
async fn change_email(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<ChangeEmail>,
) -> ApiResult<StatusCode> {
    state.services.accounts.email_changes.verify(&caller, Zeroizing::new(body.code)).await?;
    Ok(StatusCode::NO_CONTENT)
}
