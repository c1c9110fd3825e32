//! Agents over plain HTTP: the three endpoints of basic agents, and the exchange of full ones.
//!
//! Both feed the same sessions as a WebSocket does, through a [`relay`]. Beside them, which version an
//! agent should run.

mod basic;
mod desired_release;
mod exchange;
mod relay;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use muster_protocol::CloseCode;
use utoipa_axum::router::OpenApiRouter;

pub use self::basic::PollSessions;
pub use self::exchange::ExchangeSessions;
use super::AppState;
use super::extract::{client, credential};
use super::problem::{ApiResult, Problem};
use crate::services::access::authentication::{Admission, AgentRefusal};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(basic::routes())
        .merge(exchange::routes())
        .merge(desired_release::routes())
}

/// The agent key of a request. Taken before a byte of the body is read, which may be large and take
/// its time.
struct Admitted(Admission);

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
