//! `/api/auth/device`

use axum::extract::State;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::sign_in::{SignedInView, signed_in};
use crate::domain::access::records::DeviceLoginRecord;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, unknown_client};
use crate::http::origin::RequestOrigin;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::access::people::device_login::{DEVICE_LOGIN_MS, POLL_INTERVAL_S};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(start_device_login))
        .routes(routes!(redeem_device_login))
        .routes(routes!(show_device_login))
        .routes(routes!(approve_device_login))
        .routes(routes!(refuse_device_login))
}

/// A sign-in of a program, with the names of RFC 8628.
#[derive(Serialize, ToSchema)]
struct StartedDeviceLoginView {
    /// The secret of the program, `mst_device_…`, which is shown only once.
    device_code: String,
    /// What the person types: eight letters, as `BCDF-GHJK`.
    user_code: String,
    /// The page where the person types it.
    verification_uri: String,
    /// The same page with the code.
    verification_uri_complete: String,
    /// How long both codes are valid, in seconds.
    expires_in: u64,
    /// How long the program must wait between two requests for its session, in seconds.
    interval: u64,
}

// Without `Debug`, because it holds a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RedeemDeviceLogin {
    device_code: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserCodeBody {
    /// The code that the program shows, in any case, with or without the hyphen.
    user_code: String,
}

/// A sign-in that a person decides about. The program reports the texts itself, so they prove nothing.
#[derive(Debug, Serialize, ToSchema)]
struct DeviceLoginView {
    /// What the program reports about itself.
    user_agent: String,
    /// The address from which the program asks.
    source: Option<String>,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl From<DeviceLoginRecord> for DeviceLoginView {
    fn from(row: DeviceLoginRecord) -> Self {
        Self {
            user_agent: row.user_agent,
            source: row.source,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

/// Start a sign-in of a program, as RFC 8628 describes. A person who is signed in approves its code.
///
/// The program shows `user_code` and `verification_uri`, and asks with `device_code` for its session. Both
/// codes are valid for 10 minutes and work once.
#[utoipa::path(post, path = "/api/auth/device", tag = "accounts", security(()),
    responses((status = 200, body = StartedDeviceLoginView), (status = 400, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn start_device_login(
    State(state): State<AppState>,
    parts: Parts,
    origin: RequestOrigin,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<Response> {
    let origin = origin.required()?;
    let user_agent = user_agent(&parts.headers);
    let client = unknown_client(&parts);
    let started = state.services.device_logins.start(&client, &user_agent).await?;
    let page = format!("{origin}/device");
    let view = StartedDeviceLoginView {
        device_code: started.device_code.to_string(),
        verification_uri_complete: format!("{page}?user_code={}", started.user_code),
        verification_uri: page,
        user_code: started.user_code,
        expires_in: DEVICE_LOGIN_MS / 1_000,
        interval: POLL_INTERVAL_S,
    };
    let mut response = axum::Json(view).into_response();
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    Ok(response)
}

fn user_agent(headers: &HeaderMap) -> String {
    let bytes = headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ask for the session of a program. It is made once, after a person approved the code.
///
/// Until then the answer is 409 `authorization_pending`, or 429 `slow_down` for a program that asks too
/// often. It is 403 `access_denied` after a refusal and 410 `expired_token` after 10 minutes. The session
/// has not proven the password, so operations that need a recent proof ask for it.
#[utoipa::path(post, path = "/api/auth/device/token", tag = "accounts", security(()),
    request_body = RedeemDeviceLogin,
    responses((status = 200, body = SignedInView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 410, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn redeem_device_login(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<RedeemDeviceLogin>,
) -> ApiResult<Response> {
    let (client, code) = (unknown_client(&parts), Zeroizing::new(body.device_code));
    let made = state.services.device_logins.redeem(&client, &code).await?;
    Ok(signed_in(&state, made, false))
}

/// Show which program waits for the approval of a code.
#[utoipa::path(post, path = "/api/auth/device/show", tag = "accounts", request_body = UserCodeBody,
    responses((status = 200, body = DeviceLoginView), (status = 404, body = Problem)))]
async fn show_device_login(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<UserCodeBody>,
) -> ApiResult<axum::Json<DeviceLoginView>> {
    let row = state.services.device_logins.show(&caller, &body.user_code).await?;
    Ok(axum::Json(row.into()))
}

/// Approve the code of a program, which then gets a session of the caller. Only for a person who gave the
/// password in the last 15 minutes.
#[utoipa::path(post, path = "/api/auth/device/approve", tag = "accounts", request_body = UserCodeBody,
    responses((status = 200, body = DeviceLoginView), (status = 404, body = Problem)))]
async fn approve_device_login(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<UserCodeBody>,
) -> ApiResult<axum::Json<DeviceLoginView>> {
    let row = state.services.device_logins.approve(&caller, &body.user_code).await?;
    Ok(axum::Json(row.into()))
}

/// Refuse the code of a program, which then gets no session.
#[utoipa::path(post, path = "/api/auth/device/refuse", tag = "accounts", request_body = UserCodeBody,
    responses((status = 200, body = DeviceLoginView), (status = 404, body = Problem)))]
async fn refuse_device_login(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<UserCodeBody>,
) -> ApiResult<axum::Json<DeviceLoginView>> {
    let row = state.services.device_logins.refuse(&caller, &body.user_code).await?;
    Ok(axum::Json(row.into()))
}
