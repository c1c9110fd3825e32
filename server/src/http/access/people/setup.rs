//! `/api/setup`

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use crate::domain::access::principal::Role;
use crate::domain::access::records::MemberRecord;
use crate::domain::ids::{MemberId, TenantId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, credential, unknown_client};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Client;
use crate::services::access::people::setup::NewPerson;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(set_up))
}

/// A person in a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberView {
    pub id: MemberId,
    pub tenant_id: TenantId,
    pub tenant_name: String,
    /// In lower case.
    pub email: String,
    pub name: String,
    pub role: Role,
    pub created_at: Timestamp,
}

impl From<MemberRecord> for MemberView {
    fn from(row: MemberRecord) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            tenant_name: row.tenant_name,
            email: row.email,
            name: row.name,
            role: row.role,
            created_at: row.created_at,
        }
    }
}

// Without `Debug`, because it holds secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetUp {
    /// By which the owner signs in.
    email: String,
    /// Default: the part of the address before the `@`.
    name: Option<String>,
    /// At least 12 characters and at most 256 bytes, and not one of the passwords that attackers try
    /// first.
    password: String,
}

/// A set-up token that was found right before the body is read.
struct SetupToken {
    caller: Client,
    token: Zeroizing<String>,
}

impl FromRequestParts<AppState> for SetupToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = unknown_client(parts);
        let token = Zeroizing::new(credential(&parts.headers).unwrap_or_default().to_owned());
        state.services.setup.check_token(&caller, &token).await?;
        Ok(Self { caller, token })
    }
}

/// Make the first owner of a new server. The set-up token, which is the content of the file
/// `setup_token` in the server's data directory, works once, and only while there is no owner.
#[utoipa::path(post, path = "/api/setup", tag = "accounts", security(("setup_token" = [])), request_body = SetUp,
    responses((status = 201, body = MemberView), (status = 401, body = Problem), (status = 410, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn set_up(
    State(state): State<AppState>,
    SetupToken { caller, token }: SetupToken,
    Body(body): Body<SetUp>,
) -> ApiResult<(StatusCode, axum::Json<MemberView>)> {
    let password = Zeroizing::new(body.password);
    let person = NewPerson { email: body.email, name: body.name, password };
    let made = state.services.setup.complete(&caller, &token, person).await?;
    Ok((StatusCode::CREATED, axum::Json(made.into())))
}
