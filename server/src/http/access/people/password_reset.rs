//! `/api/auth/password-reset`

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use crate::http::AppState;
use crate::http::extract::{Body, credential, unknown_client};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Client;
use crate::services::access::people::password_reset::OpenReset;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(request_password_reset)).routes(routes!(reset_password))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RequestPasswordReset {
    email: String,
}

// Without `Debug`, because it holds secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResetPassword {
    /// At least 12 characters and at most 256 bytes, and not one of the passwords that attackers try
    /// first.
    password: String,
}

/// A request that was taken.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RequestedView {}

/// A token that was found right before the body is read.
struct Holder {
    client: Client,
    open: OpenReset,
}

impl FromRequestParts<AppState> for Holder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let client = unknown_client(parts);
        let token = Zeroizing::new(credential(&parts.headers).unwrap_or_default().to_owned());
        let open = state.services.accounts.password_resets.check_token(&client, &token).await?;
        Ok(Self { client, open })
    }
}

/// Request a token for a new password. It is sent to the address and works once, within an hour.
///
/// The answer shows neither by its content nor by its time whether the address is known. Five requests a
/// minute are allowed from one address and for one account.
#[utoipa::path(post, path = "/api/auth/password-reset", tag = "accounts", security(()),
    request_body = RequestPasswordReset,
    responses((status = 202, body = RequestedView), (status = 409, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn request_password_reset(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<RequestPasswordReset>,
) -> ApiResult<(StatusCode, axum::Json<RequestedView>)> {
    state.services.accounts.password_resets.request(&unknown_client(&parts), &body.email).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(RequestedView {})))
}

/// Set a new password with the token of the mail. All sessions of the person end.
#[utoipa::path(post, path = "/api/auth/password-reset/complete", tag = "accounts",
    security(("password_reset" = [])), request_body = ResetPassword,
    responses((status = 204), (status = 401, body = Problem), (status = 422, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn reset_password(
    State(state): State<AppState>,
    Holder { client, open }: Holder,
    Body(body): Body<ResetPassword>,
) -> ApiResult<StatusCode> {
    let password = Zeroizing::new(body.password);
    state.services.accounts.password_resets.complete(&client, open, password).await?;
    Ok(StatusCode::NO_CONTENT)
}
