//! Agents over plain HTTP: the three endpoints of basic agents, and the exchange of full ones.
//!
//! Both feed the same sessions as a WebSocket does, through a [`relay`].

mod basic;
mod exchange;
mod relay;

use axum::http::HeaderMap;
use muster_protocol::CloseCode;
use utoipa_axum::router::OpenApiRouter;

pub use self::basic::PollSessions;
pub use self::exchange::ExchangeSessions;
use super::AppState;
use super::extract::credential;
use super::problem::{Answer, Problem};
use crate::services::authentication::{Admission, AgentRefusal};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(basic::routes()).merge(exchange::routes())
}

/// What the key of an agent's request allows.
async fn authenticate(state: &AppState, headers: &HeaderMap) -> Answer<Admission> {
    let secret = credential(headers).ok_or_else(|| Problem::of_close(CloseCode::KeyMissing))?;
    state.services.authentication.authenticate_agent(secret).await.map_err(
        |refusal| match refusal {
            AgentRefusal::Close(code) => Problem::of_close(code),
            AgentRefusal::Store(_) => Problem::storage(),
        },
    )
}
