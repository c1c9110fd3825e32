//! `/api/invitations`

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::setup::MemberView;
use crate::domain::access::principal::Role;
use crate::domain::access::records::InvitationRecord;
use crate::domain::ids::{InvitationId, MemberId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params, credential, unknown_client};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::{Caller, Client};
use crate::services::access::people::invitations::{Acceptance, OpenInvitation};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_invitation, list_invitations))
        .routes(routes!(withdraw_invitation))
        .routes(routes!(accept_invitation))
}

/// An open invitation, without its token.
#[derive(Debug, Serialize, ToSchema)]
struct InvitationView {
    id: InvitationId,
    /// In lower case.
    email: String,
    role: Role,
    created_at: Timestamp,
    created_by: MemberId,
    expires_at: Timestamp,
}

/// An invitation with its token, which is only shown once, or sent to the address.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedInvitationView {
    /// The token, `mst_invite_…`, for the person who is invited. It can't be shown again. Absent if the
    /// server sent it to the address by mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(flatten)]
    view: InvitationView,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateInvitation {
    email: String,
    role: Role,
}

// Without `Debug`, because it holds secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcceptInvitation {
    /// Of a new account. Default: the part of the address before the `@`.
    name: Option<String>,
    /// Of the account with the address, or for a new one: then at least 12 characters and at most 256
    /// bytes, and not one of the passwords that attackers try first.
    password: String,
}

impl From<InvitationRecord> for InvitationView {
    fn from(row: InvitationRecord) -> Self {
        Self {
            id: row.id,
            email: row.email,
            role: row.role,
            created_at: row.created_at,
            created_by: row.created_by,
            expires_at: row.expires_at,
        }
    }
}

/// An invitation whose token was found right before the body is read.
struct Invited {
    client: Client,
    open: OpenInvitation,
}

impl FromRequestParts<AppState> for Invited {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let client = unknown_client(parts);
        let token = Zeroizing::new(credential(&parts.headers).unwrap_or_default().to_owned());
        let open = state.services.invitations.check_token(&client, &token).await?;
        Ok(Self { client, open })
    }
}

/// Invite a person. The token makes its holder a member once, within 7 days. A server that sends mails
/// sends it to the address only; otherwise the answer alone shows it. Only for a person who gave the password in the last 15 minutes.
#[utoipa::path(post, path = "/api/invitations", tag = "accounts", request_body = CreateInvitation,
    responses((status = 201, body = CreatedInvitationView), (status = 409, body = Problem)))]
async fn create_invitation(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<CreateInvitation>,
) -> ApiResult<(StatusCode, axum::Json<CreatedInvitationView>)> {
    let made = state.services.invitations.create(&caller, &body.email, body.role).await?;
    let view = CreatedInvitationView { token: made.token, view: made.row.into() };
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// List open invitations, oldest first.
#[utoipa::path(get, path = "/api/invitations", tag = "accounts", params(PageParams),
    responses((status = 200, body = PageView<InvitationView>)))]
async fn list_invitations(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<InvitationView>>> {
    let page = state.services.invitations.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(InvitationView::from).into()))
}

/// Withdraw an open invitation.
#[utoipa::path(delete, path = "/api/invitations/{id}", tag = "accounts",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn withdraw_invitation(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.invitations.withdraw(&caller, InvitationId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accept an invitation with its token, which works once: become a member with the account of the address,
/// or with a new one.
#[utoipa::path(post, path = "/api/invitations/accept", tag = "accounts", security(("invitation" = [])),
    request_body = AcceptInvitation,
    responses((status = 201, body = MemberView), (status = 401, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn accept_invitation(
    State(state): State<AppState>,
    Invited { client, open }: Invited,
    Body(body): Body<AcceptInvitation>,
) -> ApiResult<(StatusCode, axum::Json<MemberView>)> {
    let given = Acceptance { name: body.name, password: Zeroizing::new(body.password) };
    let member = state.services.invitations.accept(&client, open, given).await?;
    Ok((StatusCode::CREATED, axum::Json(member.into())))
}
