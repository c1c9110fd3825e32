//! `/api/certificates`: certificates that this server has issued to clients.

mod rollover;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::AppState;
use super::extract::{Body, Id, Params, page};
use super::problem::{ApiResult, Problem};
use super::views::PageView;
use crate::domain::certificates::client_certificate::{
    CertificateHolder, CertificatePolicy, CertificateState, ClientCertificateRecord,
    PeerCertificate,
};
use crate::domain::certificates::rollover::RolloverState;
use crate::domain::ids::CertificateId;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::certificates::client_certificates::CertificatesStatus;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_certificates, issue_certificate))
        .routes(routes!(get_certificates_status))
        .routes(routes!(revoke_certificate))
        .routes(routes!(rollover::get_rollover, rollover::step_rollover))
}

/// A certificate of a client. A renewal for the same key changes its times.
#[derive(Debug, Serialize, ToSchema)]
struct ClientCertificateView {
    id: CertificateId,
    holder: CertificateHolder,
    /// Id of the agent, the API key or the member.
    holder_id: Uuid,
    state: CertificateState,
    issued_at: Timestamp,
    /// When it becomes due to be renewed.
    renew_at: Timestamp,
    expires_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

/// What clients must show, and how many certificates are in each state.
#[derive(Debug, Serialize, ToSchema)]
struct CertificatesStatusView {
    /// Clients that must show a certificate.
    required_of: CertificatePolicy,
    /// False if this server does not end TLS: it issues no certificates then.
    is_issuing: bool,
    valid_count: u64,
    /// Two thirds of their time have passed.
    due_count: u64,
    /// They end within 7 days.
    expiring_count: u64,
    expired_count: u64,
    revoked_count: u64,
    /// When the certificate ends that the server shows; `null` if it does not end TLS.
    server_expires_at: Option<Timestamp>,
    /// When the server renews it; `null` for a certificate from files.
    server_renew_at: Option<Timestamp>,
    /// The name of the server's authority; `null` if it has none.
    authority: Option<String>,
    authority_expires_at: Option<Timestamp>,
    /// How far the rollover to another authority is.
    rollover: RolloverState,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RevokeCertificateParams {
    /// Its holder, an API key or a person, may get another one within 24 hours without showing a valid one.
    #[serde(default)]
    #[param(default = false)]
    allow_next: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CertificatesParams {
    cursor: Option<String>,
    limit: Option<u64>,
    /// Only certificates in this state.
    #[param(inline)]
    state: Option<CertificateState>,
}

impl ClientCertificateView {
    fn new(record: ClientCertificateRecord, now: Timestamp) -> Self {
        Self {
            state: record.state(now),
            renew_at: record.renew_at(),
            id: record.id,
            holder: record.holder,
            holder_id: record.holder_id,
            issued_at: record.issued_at,
            expires_at: record.expires_at,
            revoked_at: record.revoked_at,
        }
    }
}

impl From<CertificatesStatus> for CertificatesStatusView {
    fn from(status: CertificatesStatus) -> Self {
        let count = |wanted| {
            let found = status.counts.iter().find(|(state, _)| *state == wanted);
            found.map_or(0, |(_, count)| *count)
        };
        Self {
            required_of: status.policy,
            is_issuing: status.is_issuing,
            valid_count: count(CertificateState::Valid),
            due_count: count(CertificateState::Due),
            expiring_count: count(CertificateState::Expiring),
            expired_count: count(CertificateState::Expired),
            revoked_count: count(CertificateState::Revoked),
            server_expires_at: status.served.map(|served| served.expires_at),
            server_renew_at: status.served.and_then(|served| served.renew_at),
            authority_expires_at: status.authority.as_ref().map(|authority| authority.expires_at),
            rollover: status.authority.as_ref().map_or(RolloverState::None, |it| it.rollover),
            authority: status.authority.map(|authority| authority.name),
        }
    }
}

/// A certificate request (PKCS #10), whose key stays with its owner.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IssueCertificate {
    /// PEM. Only its public key counts: ECDSA on P-256 or P-384, Ed25519, or RSA.
    #[schema(max_length = 8_192)]
    request: String,
}

/// A certificate that was just issued.
#[derive(Debug, Serialize, ToSchema)]
struct IssuedCertificateView {
    id: CertificateId,
    /// PEM.
    certificate: String,
    expires_at: Timestamp,
}

/// Issue a certificate to the caller, valid for 90 days.
///
/// It is for the API key or the member that asks, at most 10 at once. A caller that has a certificate, or had one, must
/// show a valid one on the connection of this request, or the answer is 409 `certificate_exists`: `allow_next` of
/// `DELETE /api/certificates/{id}` permits one without that. The answer of a server that does not end TLS is 409
/// `no_certificates`.
#[utoipa::path(post, path = "/api/certificates", tag = "certificates", request_body = IssueCertificate,
    responses((status = 201, body = IssuedCertificateView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn issue_certificate(
    State(state): State<AppState>,
    caller: Caller,
    certificate: Option<Extension<PeerCertificate>>,
    Body(body): Body<IssueCertificate>,
) -> ApiResult<(StatusCode, axum::Json<IssuedCertificateView>)> {
    let shown = certificate.map(|Extension(shown)| shown).unwrap_or_default();
    let certificates = &state.services.certificates;
    let (record, certificate) =
        certificates.issue_for_caller(&caller, &body.request, shown).await?;
    let ClientCertificateRecord { id, expires_at, .. } = record;
    let view = IssuedCertificateView { id, certificate, expires_at };
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// List certificates of clients, oldest first.
#[utoipa::path(get, path = "/api/certificates", tag = "certificates", params(CertificatesParams),
    responses((status = 200, body = PageView<ClientCertificateView>)))]
async fn list_certificates(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<CertificatesParams>,
) -> ApiResult<axum::Json<PageView<ClientCertificateView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let listed = state.services.certificates.list(&caller, params.state, page).await?;
    let now = state.clock.now();
    Ok(axum::Json(listed.map(|record| ClientCertificateView::new(record, now)).into()))
}

/// Get what clients must show, and how many certificates are in each state.
#[utoipa::path(get, path = "/api/certificates/status", tag = "certificates",
    responses((status = 200, body = CertificatesStatusView)))]
async fn get_certificates_status(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<CertificatesStatusView>> {
    Ok(axum::Json(state.services.certificates.status(&caller).await?.into()))
}

/// Revoke a certificate for good. Its agent is disconnected within a second, and its key pair opens no further
/// session: delete the agent and install it again. The certificate of another API key needs `api_keys:write` too, and a
/// caller that could have created this key; that of another member needs `members:write`. Repeatable. With `allow_next`
/// the holder can get another certificate; a key can't allow that to itself, and a person needs a password that was
/// confirmed in the last 15 minutes. The answer of a server that does not end TLS is 409 `no_certificates`.
#[utoipa::path(delete, path = "/api/certificates/{id}", tag = "certificates", params(("id" = Uuid, Path), RevokeCertificateParams),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn revoke_certificate(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<RevokeCertificateParams>,
) -> ApiResult<StatusCode> {
    let certificates = &state.services.certificates;
    certificates.revoke(&caller, CertificateId(id), params.allow_next).await?;
    Ok(StatusCode::NO_CONTENT)
}
