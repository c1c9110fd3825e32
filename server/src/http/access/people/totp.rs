//! `/api/me/totp`, and the second step of a sign-in.

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::sign_in::{SignedInView, signed_in};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::cookies::check_same_origin;
use crate::http::extract::{Body, Empty, unknown_client};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::access::people::totp::SecondFactor;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(complete_sign_in))
        .routes(routes!(get_totp, enrol_totp, disable_totp))
        .routes(routes!(confirm_totp))
        .routes(routes!(replace_recovery_codes))
}

// Without `Debug`, because it holds secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CompleteSignIn {
    /// Of the answer to the password.
    challenge: String,
    /// Six digits of the device, or a recovery code.
    code: String,
    /// Set the tokens as cookies, for a browser, and leave them out of the answer. Only a page of this
    /// server may ask for that.
    #[serde(default)]
    cookies: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfirmTotp {
    /// The present six digits of the device.
    code: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TotpProof {
    /// The present six digits of the device, or a recovery code. A secret that waits for its first code needs
    /// none.
    code: Option<String>,
}

/// The second factor of the person.
#[derive(Debug, Serialize, ToSchema)]
struct TotpView {
    /// Since when codes are asked for; null if they are not.
    enabled_at: Option<Timestamp>,
    recovery_codes_left: u64,
}

/// A secret for a device. It is shown only once.
#[derive(Serialize, ToSchema)]
struct EnrolledTotpView {
    /// For a person who types it: base32.
    secret: String,
    /// The same for a device that reads it, as a QR code.
    otpauth_url: String,
}

/// Recovery codes. They are shown only once, and each one works once.
#[derive(Serialize, ToSchema)]
struct RecoveryCodesView {
    recovery_codes: Vec<String>,
}

/// Complete a sign-in with a code, after the password was right and the answer was a challenge.
///
/// The code is one of the device, or a recovery code. Each one works once. Five wrong codes of six digits are
/// allowed in 15 minutes.
#[utoipa::path(post, path = "/api/auth/login/code", tag = "accounts", security(()),
    request_body = CompleteSignIn,
    responses((status = 200, body = SignedInView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn complete_sign_in(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<CompleteSignIn>,
) -> ApiResult<Response> {
    if body.cookies {
        check_same_origin(&parts, &state)?;
    }
    let (client, code) = (unknown_client(&parts), Zeroizing::new(body.code));
    let sign_in = &state.services.sign_in;
    let made = sign_in.complete_sign_in(&client, &body.challenge, code).await?;
    Ok(signed_in(&state, made, body.cookies))
}

/// Show whether the person has a second factor.
#[utoipa::path(get, path = "/api/me/totp", tag = "accounts", responses((status = 200, body = TotpView)))]
async fn get_totp(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<TotpView>> {
    let state = SecondFactor(&state.services.sign_in).state(&caller).await?;
    let (enabled_at, recovery_codes_left) = (state.enabled_at, state.recovery_codes_left);
    Ok(axum::Json(TotpView { enabled_at, recovery_codes_left }))
}

/// Make a secret for a device that shows codes. Codes are asked for only after the first one of it was typed.
/// Only for a person who gave the password in the last 15 minutes.
#[utoipa::path(post, path = "/api/me/totp", tag = "accounts",
    responses((status = 201, body = EnrolledTotpView), (status = 409, body = Problem)))]
async fn enrol_totp(
    State(state): State<AppState>,
    caller: Caller,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<Response> {
    let made = SecondFactor(&state.services.sign_in).enrol(&caller).await?;
    let (secret, otpauth_url) = (made.secret.to_string(), made.otpauth_url.to_string());
    Ok(secrets(StatusCode::CREATED, EnrolledTotpView { secret, otpauth_url }))
}

/// Enable the second factor with the first code of the device. The answer has ten recovery codes. The person's
/// other sessions end.
#[utoipa::path(post, path = "/api/me/totp/confirm", tag = "accounts", request_body = ConfirmTotp,
    responses((status = 200, body = RecoveryCodesView), (status = 404, body = Problem)))]
async fn confirm_totp(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<ConfirmTotp>,
) -> ApiResult<Response> {
    let code = Zeroizing::new(body.code);
    let codes = SecondFactor(&state.services.sign_in).confirm(&caller, code).await?;
    Ok(recovery_codes(&codes))
}

/// Replace the recovery codes of the person. Only for a person who gave the password in the last 15 minutes,
/// with a code.
#[utoipa::path(post, path = "/api/me/totp/recovery-codes", tag = "accounts", request_body = TotpProof,
    responses((status = 200, body = RecoveryCodesView), (status = 404, body = Problem)))]
async fn replace_recovery_codes(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<TotpProof>,
) -> ApiResult<Response> {
    let factor = SecondFactor(&state.services.sign_in);
    let codes = factor.replace_recovery_codes(&caller, body.code.map(Zeroizing::new)).await?;
    Ok(recovery_codes(&codes))
}

/// Disable the second factor. Only for a person who gave the password in the last 15 minutes, with a code.
#[utoipa::path(delete, path = "/api/me/totp", tag = "accounts", request_body = TotpProof,
    responses((status = 204), (status = 404, body = Problem)))]
async fn disable_totp(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<TotpProof>,
) -> ApiResult<StatusCode> {
    let code = body.code.map(Zeroizing::new);
    SecondFactor(&state.services.sign_in).disable(&caller, code).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn recovery_codes(codes: &[Zeroizing<String>]) -> Response {
    let recovery_codes = codes.iter().map(|code| code.to_string()).collect();
    secrets(StatusCode::OK, RecoveryCodesView { recovery_codes })
}

/// An answer that nothing in between stores.
fn secrets(status: StatusCode, view: impl Serialize) -> Response {
    let mut response = (status, axum::Json(view)).into_response();
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    response
}
