//! `POST /api/agents/exchange`: a session of a full agent over plain HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::CloseCode;
use muster_protocol::frame::exchange::{
    CONTENT_TYPE, ExchangePart, ExchangeRequest, ExchangeResponse, MAX_BODY_BYTES,
};
use muster_protocol::limits::{MAX_FRAME_BYTES, MAX_POLL_WAIT_MS};
use tokio::sync::{Mutex as AsyncMutex, watch};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::Admitted;
use super::relay::{Carries, Relay, relay};
use crate::domain::fleet::agent::Transport;
use crate::domain::ids::AgentKeyId;
use crate::http::AppState;
use crate::http::extract::unread_body;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::authentication::Admission;
use crate::services::sessions::{AgentMessage, SessionRequest};

/// Sessions over HTTP that a key may have beyond four for each of its agents, ended ones
/// included that linger.
const SPARE_SESSIONS: usize = 16;
/// How long the last answer of a session that has ended can be asked for again.
const LINGER: Duration = Duration::from_secs(60);
/// How long a request that overtook the one before waits for it.
const OVERTAKING_WAIT: Duration = Duration::from_secs(10);
/// Room that an answer's header takes.
const ANSWER_OVERHEAD_BYTES: usize = 64;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(exchange_frames))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// The open sessions. A session belongs to the key that opened it.
#[derive(Clone, Default)]
pub struct ExchangeSessions(Arc<Mutex<OpenExchanges>>);

type OpenExchanges = HashMap<AgentKeyId, HashMap<Uuid, Arc<Exchange>>>;

struct Exchange {
    relay: Relay,
    /// What has arrived: the request that waits returns when the next one is here.
    arrivals: watch::Sender<Arrivals>,
    /// The next sequence to be taken: one that overtook the one before waits for it.
    next_sequence: watch::Sender<u64>,
    turn: AsyncMutex<Turn>,
}

#[derive(Default)]
struct Arrivals {
    count: u64,
    latest_sequence: u64,
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
        (status = 403, body = Problem), (status = 409, body = Problem), (status = 400, body = Problem), (status = 410, body = Problem), (status = 413, body = Problem), (status = 415, body = Problem)))]
async fn exchange_frames(
    State(state): State<AppState>,
    Admitted(admission): Admitted,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> ApiResult<Response> {
    let body = body.map_err(|rejection| unread_body(&rejection, MAX_BODY_BYTES))?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != CONTENT_TYPE) {
        return Err(Problem::media_type(CONTENT_TYPE));
    }
    let request =
        ExchangeRequest::decode(&body).map_err(|error| Problem::malformed(error.to_string()))?;
    if request.parts.iter().any(|part| part.encoded_bytes() > MAX_FRAME_BYTES) {
        return Err(Problem::of_close(CloseCode::FrameTooBig));
    }
    let exchange = state.exchanges.find_or_open(&state, admission, &request)?;
    // A client that hangs up must not leave half a request behind: it runs to its end.
    let turn = tokio::spawn(async move { exchange.process(request).await });
    let answer = turn.await.map_err(|_| Problem::unknown_session())??;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], answer).into_response())
}

impl ExchangeSessions {
    fn find_or_open(
        &self,
        state: &AppState,
        admission: Admission,
        request: &ExchangeRequest,
    ) -> ApiResult<Arc<Exchange>> {
        let (key_id, session_id) = (admission.grant.key_id, request.session_id);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key = sessions.entry(key_id).or_default();
        if let Some(exchange) = of_key.get(&session_id) {
            return Ok(Arc::clone(exchange));
        }
        let most = usize::try_from(admission.grant.max_agents).unwrap_or(1) * 4 + SPARE_SESSIONS;
        let refusal = match request.sequence {
            0 if of_key.len() < most => None,
            0 => Some(Problem::busy("too many sessions of this key are open; try again later")),
            _ => Some(Problem::unknown_session()),
        };
        if let Some(refusal) = refusal {
            if of_key.is_empty() {
                sessions.remove(&key_id);
            }
            return Err(refusal);
        }
        let (relay, transport) = relay(Carries::AllFrames);
        let exchange = Arc::new(Exchange {
            relay,
            arrivals: watch::Sender::default(),
            next_sequence: watch::Sender::default(),
            turn: AsyncMutex::default(),
        });
        of_key.insert(session_id, Arc::clone(&exchange));
        let services = state.services.clone();
        let entry = Entry { sessions: self.clone(), key_id, session_id };
        tokio::spawn(async move {
            let _entry = entry;
            let origin = SessionRequest {
                grant: admission.grant,
                secret_hash: admission.secret_hash,
                transport: Transport::Http,
                implied_registration: None,
                is_key_in_query: false,
            };
            services.sessions.run(origin, transport).await;
            tokio::time::sleep(LINGER).await;
        });
        Ok(exchange)
    }
}

/// A session's place in the map, given up when dropped.
struct Entry {
    sessions: ExchangeSessions,
    key_id: AgentKeyId,
    session_id: Uuid,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_key) = sessions.get_mut(&self.key_id) {
            of_key.remove(&self.session_id);
            if of_key.is_empty() {
                sessions.remove(&self.key_id);
            }
        }
    }
}

impl Exchange {
    async fn process(&self, request: ExchangeRequest) -> ApiResult<Bytes> {
        let sequence = request.sequence;
        self.arrivals.send_modify(|arrivals| {
            arrivals.count += 1;
            arrivals.latest_sequence = arrivals.latest_sequence.max(sequence);
        });
        let mut arrivals = self.arrivals.subscribe();
        let is_last = |arrivals: &Arrivals| arrivals.latest_sequence <= sequence;
        self.wait_for_the_one_before(sequence).await;
        let mut turn = self.turn.lock().await;
        if sequence + 1 == turn.next_sequence {
            return Ok(turn.last_answer.clone());
        }
        if sequence != turn.next_sequence {
            return Err(Problem::unknown_session());
        }
        turn.next_sequence += 1;
        self.next_sequence.send_replace(turn.next_sequence);
        self.push(request.parts).await;
        let wait = Duration::from_millis(u64::from(request.wait_ms).min(MAX_POLL_WAIT_MS));
        if is_last(&arrivals.borrow_and_update()) {
            tokio::select! {
                () = self.relay.filled() => {}
                () = tokio::time::sleep(wait) => {}
                _ = arrivals.changed() => {}
            }
        }
        let parts = self.relay.take(MAX_BODY_BYTES - ANSWER_OVERHEAD_BYTES);
        turn.last_answer = ExchangeResponse { sequence, parts }.encode().into();
        Ok(turn.last_answer.clone())
    }

    /// Two requests may overtake each other on their way; no more than two are ever open.
    async fn wait_for_the_one_before(&self, sequence: u64) {
        let mut next = self.next_sequence.subscribe();
        let is_overtaken = |next: &u64| sequence != *next + 1;
        // If the one before never comes, the sequence is refused as out of order.
        let _ = tokio::time::timeout(OVERTAKING_WAIT, next.wait_for(is_overtaken)).await;
    }

    async fn push(&self, parts: Vec<ExchangePart>) {
        let mut inbound = AgentMessage::KeepAlive;
        for part in parts {
            inbound = match part {
                ExchangePart::Text(text) => AgentMessage::Text(text.into()),
                ExchangePart::Binary(bytes) => AgentMessage::Binary(bytes.into()),
                ExchangePart::Close { .. } => AgentMessage::Closed,
            };
            if !self.relay.push(std::mem::replace(&mut inbound, AgentMessage::KeepAlive)).await {
                return;
            }
        }
        self.relay.push(inbound).await;
    }
}
