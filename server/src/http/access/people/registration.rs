//! `/api/auth/register`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::setup::MemberView;
use crate::domain::ids::RegistrationId;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, unknown_client};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::people::registration::{NewTenantOwner, OpenRegistration};
use crate::services::access::people::setup::NewPerson;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(resend_code))
        .routes(routes!(verify_registration))
}

// Without `Debug`, because it holds secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    email: String,
    /// Default: the part of the address before the `@`.
    name: Option<String>,
    /// At least 12 characters and at most 256 bytes, and not one of the passwords that attackers try
    /// first.
    password: String,
    /// Of the new tenant. Default: the name of the person.
    tenant_name: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResendCode {
    registration_id: RegistrationId,
}

// Without `Debug`, because it holds secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyRegistration {
    registration_id: RegistrationId,
    /// The six digits of the mail.
    code: String,
}

/// A registration that waits for its code.
#[derive(Debug, Serialize, ToSchema)]
struct RegistrationView {
    registration_id: RegistrationId,
    /// When the code expires.
    expires_at: Timestamp,
}

impl From<OpenRegistration> for RegistrationView {
    fn from(open: OpenRegistration) -> Self {
        Self { registration_id: open.id, expires_at: open.expires_at }
    }
}

/// Create an account and a tenant, whose owner it is. A code of six digits is sent to the address.
///
/// The answer shows neither by its content nor by its time whether the address has an account already: then
/// its owner gets a notice instead. Five registrations a minute are allowed from one address and for one
/// account.
#[utoipa::path(post, path = "/api/auth/register", tag = "accounts", security(()), request_body = Register,
    responses((status = 202, body = RegistrationView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn register(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<Register>,
) -> ApiResult<(StatusCode, axum::Json<RegistrationView>)> {
    let password = Zeroizing::new(body.password);
    let person = NewPerson { email: body.email, name: body.name, password };
    let given = NewTenantOwner { person, tenant_name: body.tenant_name };
    let open =
        state.services.accounts.registrations.register(&unknown_client(&parts), given).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(open.into())))
}

/// Send another code for a registration. The one before becomes invalid. The answer is the same for a
/// registration that does not exist.
#[utoipa::path(post, path = "/api/auth/register/resend", tag = "accounts", security(()), request_body = ResendCode,
    responses((status = 202, body = RegistrationView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn resend_code(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<ResendCode>,
) -> ApiResult<(StatusCode, axum::Json<RegistrationView>)> {
    let client = unknown_client(&parts);
    let open = state.services.accounts.registrations.resend(&client, body.registration_id).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(open.into())))
}

/// Finish a registration with the code of the mail, which is valid for 10 minutes. Five codes may be tried.
/// The person can sign in afterwards.
#[utoipa::path(post, path = "/api/auth/register/verify", tag = "accounts", security(()),
    request_body = VerifyRegistration,
    responses((status = 201, body = MemberView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn verify_registration(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<VerifyRegistration>,
) -> ApiResult<(StatusCode, axum::Json<MemberView>)> {
    let (client, code) = (unknown_client(&parts), Zeroizing::new(body.code));
    let registrations = &state.services.accounts.registrations;
    let member = registrations.verify(&client, body.registration_id, code).await?;
    Ok((StatusCode::CREATED, axum::Json(member.into())))
}
