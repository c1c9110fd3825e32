//! `POST /api/agents/exchange`: a session of a full agent over plain HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::frame::exchange::{
    Answer as ExchangeAnswer, CONTENT_TYPE, MAX_BODY_BYTES, Part, Request,
};
use muster_protocol::limits::MAX_POLL_WAIT_MS;
use tokio::sync::{Mutex as AsyncMutex, watch};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::relay::{Relay, relay};
use crate::domain::ids::AgentKeyId;
use crate::http::AppState;
use crate::http::problem::{Answer, Problem};
use crate::hub::KeyGrant;
use crate::services::sessions::{Inbound, Origin};
use crate::store::entities::column::Transport;

/// Sessions over HTTP that may be open at once.
const MAX_SESSIONS: usize = 50_000;
/// How long the last answer of a session that has ended can be asked for again.
const LINGER: Duration = Duration::from_secs(60);
/// Room that an answer's header takes.
const ANSWER_OVERHEAD_BYTES: usize = 64;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(exchange_frames))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// The open sessions. A session belongs to the key that opened it.
#[derive(Clone, Default)]
pub struct ExchangeSessions(Arc<Mutex<HashMap<(AgentKeyId, Uuid), Arc<Exchange>>>>);

struct Exchange {
    relay: Relay,
    /// Counts requests: the one that waits returns when the next arrives.
    arrivals: watch::Sender<u64>,
    turn: AsyncMutex<Turn>,
}

#[derive(Default)]
struct Turn {
    next_sequence: u64,
    last_answer: Bytes,
}

/// Exchange frames of a full agent's session. Meant for agents; see the protocol's documentation.
#[utoipa::path(post, path = "/api/agents/exchange", tag = "agent link",
    request_body(content_type = "application/vnd.muster.exchange"),
    responses((status = 200, content_type = "application/vnd.muster.exchange"), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 409, body = Problem)))]
async fn exchange_frames(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Answer<Response> {
    let grant = super::authenticate(&state, &headers).await?;
    let body = body.map_err(|_| Problem::too_large())?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != CONTENT_TYPE) {
        return Err(Problem::media_type(CONTENT_TYPE));
    }
    let request = Request::decode(&body).map_err(|error| Problem::malformed(error.to_string()))?;
    let exchange = state.exchanges.find_or_open(&state, grant, &request)?;
    // A client that hangs up must not leave half a request behind: it runs to its end.
    let turn = tokio::spawn(async move { exchange.take_turn(request).await });
    let answer = turn.await.map_err(|_| Problem::unknown_session())??;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], answer).into_response())
}

impl ExchangeSessions {
    fn find_or_open(
        &self,
        state: &AppState,
        grant: Arc<KeyGrant>,
        request: &Request,
    ) -> Answer<Arc<Exchange>> {
        let name = (grant.key_id, request.session_id);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exchange) = sessions.get(&name) {
            return Ok(Arc::clone(exchange));
        }
        if request.sequence != 0 {
            return Err(Problem::unknown_session());
        }
        if sessions.len() >= MAX_SESSIONS {
            return Err(Problem::busy("too many sessions over HTTP are open; try again later"));
        }
        let (relay, transport) = relay();
        let exchange =
            Arc::new(Exchange { relay, arrivals: watch::Sender::new(0), turn: AsyncMutex::default() });
        sessions.insert(name, Arc::clone(&exchange));
        let (services, map) = (state.services.clone(), self.clone());
        tokio::spawn(async move {
            let origin =
                Origin { grant, transport: Transport::Http, implied: None, is_key_in_query: false };
            services.sessions.run(origin, transport).await;
            tokio::time::sleep(LINGER).await;
            map.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
        Ok(exchange)
    }
}

impl Exchange {
    async fn take_turn(&self, request: Request) -> Answer<Bytes> {
        self.arrivals.send_modify(|count| *count += 1);
        let mut arrivals = self.arrivals.subscribe();
        arrivals.mark_unchanged();
        let mut turn = self.turn.lock().await;
        if request.sequence + 1 == turn.next_sequence {
            return Ok(turn.last_answer.clone());
        }
        if request.sequence != turn.next_sequence {
            return Err(Problem::unknown_session());
        }
        let sequence = request.sequence;
        turn.next_sequence += 1;
        self.push(request.parts).await;
        let wait = Duration::from_millis(u64::from(request.wait_ms).min(MAX_POLL_WAIT_MS));
        tokio::select! {
            () = self.relay.filled() => {}
            () = tokio::time::sleep(wait) => {}
            _ = arrivals.changed() => {}
        }
        let parts = self.relay.take(MAX_BODY_BYTES - ANSWER_OVERHEAD_BYTES);
        turn.last_answer = ExchangeAnswer { sequence, parts }.encode().into();
        Ok(turn.last_answer.clone())
    }

    async fn push(&self, parts: Vec<Part>) {
        let mut inbound = Inbound::Alive;
        for part in parts {
            inbound = match part {
                Part::Text(text) => Inbound::Text(text.into()),
                Part::Binary(bytes) => Inbound::Binary(bytes.into()),
                Part::Close { .. } => Inbound::Bye,
            };
            if !self.relay.push(std::mem::replace(&mut inbound, Inbound::Alive)).await {
                return;
            }
        }
        self.relay.push(inbound).await;
    }
}
