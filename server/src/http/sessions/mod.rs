//! Agents over plain HTTP: the three endpoints of basic agents, and the exchange of full ones.
//!
//! Both use the same sessions as a WebSocket, through a [`relay`]. [`desired_release`] answers which
//! version an agent should run, and [`package_archive`] sends what a command runs.

mod basic;
mod desired_release;
mod exchange;
mod open_requests;
mod package_archive;
mod relay;
mod request_body;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use muster_protocol::CloseCode;
use utoipa_axum::router::OpenApiRouter;

pub use self::basic::PollSessions;
pub use self::exchange::ExchangeSessions;
use self::request_body::PERMIT_WAIT;
use super::AppState;
use super::body_bytes::{IsCounted, declared_bytes};
use super::extract::{client, credential, peer_certificate};
use super::problem::{ApiResult, Problem};
use crate::services::access::authentication::{AdmittedKey, AgentRefusal};
use crate::services::sessions::BytePermit;
use muster_protocol::limits::MAX_FRAME_BYTES;

/// The path of [`exchange`].
pub(super) const EXCHANGE_PATH: &str = "/api/agents/exchange";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(basic::routes())
        .merge(exchange::routes())
        .merge(desired_release::routes())
        .merge(package_archive::routes())
}

/// The agent key of a request, checked before its body is read.
struct Admitted(AdmittedKey);

/// [`Admitted`] for a request outside of a session: where agents must show a certificate, it has a valid one.
struct AdmittedRequest(AdmittedKey);

impl FromRequestParts<AppState> for AdmittedRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let Admitted(admission) = Admitted::from_request_parts(parts, state).await?;
        let certificates = &state.services.certificates;
        let tenant_id = admission.grant.tenant_id;
        certificates
            .check_agent_request(tenant_id, peer_certificate(parts))
            .await
            .map_err(Problem::of_close)?;
        Ok(Self(admission))
    }
}

impl FromRequestParts<AppState> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let secret =
            credential(&parts.headers).ok_or_else(|| Problem::of_close(CloseCode::KeyMissing))?;
        let admission =
            state.services.authentication.authenticate_agent(secret, client(parts)).await;
        admission.map(Self).map_err(|refusal| match refusal {
            AgentRefusal::Close(code) => Problem::of_close(code),
            AgentRefusal::TooMany => Problem::too_many_unknown_keys(),
            AgentRefusal::Store(_) => Problem::storage(),
        })
    }
}

/// [`Admitted`], and the permit to hold the body's bytes: the requests of one agent key together
/// take no more memory than its sessions may.
struct AdmittedBody {
    admission: AdmittedKey,
    permit: BytePermit,
}

impl FromRequestParts<AppState> for AdmittedBody {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let Admitted(admission) = Admitted::from_request_parts(parts, state).await?;
        let bytes = declared_bytes(&parts.headers).unwrap_or(MAX_FRAME_BYTES).min(MAX_FRAME_BYTES);
        let share = state.services.sessions.bytes_of(&admission.grant);
        let permit = tokio::time::timeout(PERMIT_WAIT, share.acquire(bytes)).await;
        let permit = permit.map_err(|_| Problem::too_many_bytes())?;
        parts.extensions.insert(IsCounted);
        Ok(Self { admission, permit })
    }
}
