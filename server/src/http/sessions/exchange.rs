//! `POST /api/agents/exchange`: a session of a full agent over plain HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::CloseCode;
use muster_protocol::frame::exchange::{
    CONTENT_TYPE, ExchangeResponse, MAX_BODY_BYTES, PartRef, REQUEST_HEADER_BYTES, RequestHeader,
    parts_of,
};
use muster_protocol::limits::{MAX_FRAME_BYTES, MAX_POLL_WAIT_MS};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::Admitted;
use super::open_requests::{OpenRequest, OpenRequests};
use super::relay::{FetchedFrames, Relay, relay};
use super::request_body::RequestBody;
use crate::domain::certificates::client_certificate::PeerCertificate;
use crate::domain::fleet::agent::Transport;
use crate::domain::ids::AgentKeyId;
use crate::http::AppState;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::authentication::AdmittedKey;
use crate::services::sessions::{AgentMessage, SessionBytes, SessionRequest};

/// Sessions over HTTP that a key may have beyond four for each of its agents, including ended ones
/// within [`LINGER`].
const SPARE_SESSIONS: usize = 16;
/// How long the last answer of an ended session can be requested again.
const LINGER: Duration = Duration::from_secs(60);
/// How long a request that overtook the previous one waits for it to arrive.
const OVERTAKING_WAIT: Duration = Duration::from_secs(10);
/// Most parts of one body. An agent has fewer frames waiting.
const MAX_PARTS: usize = 4_096;
/// How long the answer to a request with output waits for an acknowledgement, even if it could
/// carry other frames at once: the next answer may leave much later on a slow network.
const ACK_WAIT: Duration = Duration::from_millis(100);
/// Size of an answer's header, rounded up.
const ANSWER_OVERHEAD_BYTES: usize = 64;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(exchange_frames))
}

/// The open sessions. A session belongs to the key that opened it.
#[derive(Clone, Default)]
pub struct ExchangeSessions(Arc<Mutex<OpenExchanges>>);

type OpenExchanges = HashMap<AgentKeyId, HashMap<Uuid, OpenExchange>>;

struct OpenExchange {
    exchange: Arc<Exchange>,
    opened_at: Instant,
    /// The task that runs the session and, after its end, keeps its last answer.
    task: AbortHandle,
}

struct Exchange {
    relay: Relay,
    /// What the connection of the first request showed.
    certificate: PeerCertificate,
    bytes: SessionBytes,
    open: OpenRequests,
    /// One more than the highest sequence that has arrived. A request that waits returns when the
    /// next one has arrived.
    arrived: watch::Sender<u64>,
    /// The next sequence to process. A request that overtook the previous one waits for it.
    next_sequence: watch::Sender<u64>,
    progress: Arc<AsyncMutex<ExchangeProgress>>,
}

/// The progress of the session. The request that holds the lock is processed.
#[derive(Default)]
struct ExchangeProgress {
    next_sequence: u64,
    /// The answer to the previous sequence; absent while its request waits, or if that request was
    /// given up.
    answer: Option<Bytes>,
}

/// Exchange frames of a full agent's session. Meant for agents; see the protocol's documentation.
#[utoipa::path(post, path = "/api/agents/exchange", tag = "agent link",
    request_body(content_type = "application/vnd.muster.exchange"),
    responses((status = 200, content_type = "application/vnd.muster.exchange"), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 409, body = Problem), (status = 400, body = Problem), (status = 410, body = Problem), (status = 413, body = Problem), (status = 415, body = Problem)))]
async fn exchange_frames(
    State(state): State<AppState>,
    Admitted(admission): Admitted,
    certificate: Option<Extension<PeerCertificate>>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != CONTENT_TYPE) {
        return Err(Problem::media_type(CONTENT_TYPE));
    }
    let mut body = RequestBody::new(body, &headers, MAX_BODY_BYTES)?;
    body.read_at_least(REQUEST_HEADER_BYTES).await?;
    let header = RequestHeader::decode(body.bytes())
        .map_err(|error| Problem::malformed(error.to_string()))?;
    let shown = certificate.map(|Extension(shown)| shown).unwrap_or_default();
    let exchange = state.exchanges.find_or_open(&state, (admission, shown), &header)?;
    let policy = state.services.certificates.policy();
    policy.check_request(exchange.certificate, shown).map_err(Problem::of_close)?;
    let next = *exchange.next_sequence.borrow();
    let open = exchange.open.enter(header.sequence, next)?;
    let answer = tokio::select! {
        biased;
        () = open.repeated() => Err(Problem::busy("the request was sent again; use that answer")),
        answer = Arc::clone(&exchange).process(header, body, &open) => answer,
    };
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], answer?).into_response())
}

impl ExchangeSessions {
    fn find_or_open(
        &self,
        state: &AppState,
        (admission, certificate): (AdmittedKey, PeerCertificate),
        request: &RequestHeader,
    ) -> ApiResult<Arc<Exchange>> {
        let (key_id, session_id) = (admission.grant.key_id, request.session_id);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key = sessions.entry(key_id).or_default();
        if let Some(open) = of_key.get(&session_id) {
            return Ok(Arc::clone(&open.exchange));
        }
        let most = usize::try_from(admission.grant.max_agents).unwrap_or(1) * 4 + SPARE_SESSIONS;
        if request.sequence == 0 && of_key.len() >= most {
            drop_ended(of_key);
        }
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
        let (relay, transport) = relay(FetchedFrames::AllFrames);
        let exchange = Arc::new(Exchange {
            relay,
            certificate,
            bytes: state.services.sessions.bytes_of(&admission.grant),
            open: OpenRequests::default(),
            arrived: watch::Sender::default(),
            next_sequence: watch::Sender::default(),
            progress: Arc::default(),
        });
        let services = state.services.clone();
        let entry = SessionEntry {
            sessions: self.clone(),
            key_id,
            session_id,
            exchange: Arc::downgrade(&exchange),
        };
        let task = tokio::spawn(async move {
            let _entry = entry;
            let origin = SessionRequest {
                grant: admission.grant,
                secret_hash: admission.secret_hash,
                transport: Transport::Http,
                implied_registration: None,
                is_key_in_query: false,
                source: admission.source,
                certificate,
            };
            services.sessions.run(origin, transport).await;
            tokio::time::sleep(LINGER).await;
        });
        let open = OpenExchange {
            exchange: Arc::clone(&exchange),
            opened_at: Instant::now(),
            task: task.abort_handle(),
        };
        of_key.insert(session_id, open);
        Ok(exchange)
    }
}

/// Makes room for a new session: the oldest ended one goes, first of those that never registered.
/// A holder of the key can leave any number of these behind.
fn drop_ended(of_key: &mut HashMap<Uuid, OpenExchange>) {
    let ended = of_key.iter().filter(|(_, open)| open.exchange.relay.is_closed());
    let first = ended.min_by_key(|(_, open)| (open.exchange.relay.is_registered(), open.opened_at));
    if let Some(id) = first.map(|(id, _)| *id)
        && let Some(dropped) = of_key.remove(&id)
    {
        dropped.task.abort();
    }
}

/// A session's entry in the map, removed when dropped.
struct SessionEntry {
    sessions: ExchangeSessions,
    key_id: AgentKeyId,
    session_id: Uuid,
    exchange: Weak<Exchange>,
}

impl Drop for SessionEntry {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_key) = sessions.get_mut(&self.key_id) {
            let is_own = |open: &OpenExchange| {
                std::ptr::eq(Arc::as_ptr(&open.exchange), self.exchange.as_ptr())
            };
            if of_key.get(&self.session_id).is_some_and(is_own) {
                of_key.remove(&self.session_id);
            }
            if of_key.is_empty() {
                sessions.remove(&self.key_id);
            }
        }
    }
}

impl Exchange {
    /// Reads the rest of a request, and answers it. Dropped when the caller disconnects: a request
    /// that was taken by then is handed to the session all the same, and its repetition gets the
    /// answer.
    async fn process(
        self: Arc<Self>,
        header: RequestHeader,
        mut body: RequestBody,
        open: &OpenRequest<'_>,
    ) -> ApiResult<Bytes> {
        let sequence = header.sequence;
        let is_half_here = || self.note_arrival(sequence);
        let bytes = body.read_to_end(&self.bytes, &self.relay, is_half_here).await?;
        check_parts(&bytes)?;
        let is_output = |message: AgentMessage| matches!(message, AgentMessage::Binary(_));
        let has_output = messages_of(&bytes).any(is_output);
        self.note_arrival(sequence);
        self.wait_for_the_one_before(sequence, open).await;
        let mut progress = Arc::clone(&self.progress).lock_owned().await;
        if sequence + 1 == progress.next_sequence {
            if let Some(answer) = &progress.answer {
                return Ok(answer.clone());
            }
        } else if sequence == progress.next_sequence {
            let ack_count = self.relay.ack_count();
            progress.next_sequence += 1;
            progress.answer = None;
            self.next_sequence.send_replace(progress.next_sequence);
            progress = Arc::clone(&self).hand_over(bytes, progress).await?;
            if has_output {
                // Output that can't be stored now has no acknowledgement.
                let _ = tokio::time::timeout(ACK_WAIT, self.relay.acknowledged(ack_count)).await;
            }
        } else {
            return Err(Problem::unknown_session());
        }
        let wait = Duration::from_millis(u64::from(header.wait_ms).min(MAX_POLL_WAIT_MS));
        let mut arrived = self.arrived.subscribe();
        tokio::select! {
            () = self.relay.wait_for_frames() => {}
            () = tokio::time::sleep(wait) => {}
            _ = arrived.wait_for(|next| *next > sequence + 1) => {}
        }
        let parts = self.relay.take(MAX_BODY_BYTES - ANSWER_OVERHEAD_BYTES);
        let answer = Bytes::from(ExchangeResponse { sequence, parts }.encode());
        progress.answer = Some(answer.clone());
        Ok(answer)
    }

    fn note_arrival(&self, sequence: u64) {
        self.arrived.send_if_modified(|next| {
            let is_later = sequence >= *next;
            *next = (*next).max(sequence + 1);
            is_later
        });
    }

    /// Two requests may overtake each other on their way. The wait lasts while the previous one is
    /// still being received; if it never comes, the sequence is refused as out of order.
    async fn wait_for_the_one_before(&self, sequence: u64, open: &OpenRequest<'_>) {
        let mut next = self.next_sequence.subscribe();
        let is_overtaken = |next: &u64| sequence != *next + 1;
        while tokio::time::timeout(OVERTAKING_WAIT, next.wait_for(is_overtaken)).await.is_err()
            && open.has_other()
        {}
    }

    /// Hands the frames of a checked body to the session, in a task of its own: none may be lost or
    /// doubled if the caller disconnects meanwhile. The body keeps its permit until all are handed
    /// over, and each frame keeps it until it is handled.
    async fn hand_over(
        self: Arc<Self>,
        body: Bytes,
        progress: OwnedMutexGuard<ExchangeProgress>,
    ) -> ApiResult<OwnedMutexGuard<ExchangeProgress>> {
        if body.len() <= REQUEST_HEADER_BYTES {
            self.relay.push(AgentMessage::KeepAlive).await;
            return Ok(progress);
        }
        let handing_over = tokio::spawn(async move {
            for message in messages_of(&body) {
                if !self.relay.push(message).await {
                    break;
                }
            }
            progress
        });
        handing_over.await.map_err(|_| Problem::unknown_session())
    }
}

/// Refuses a body as a whole, before any of its frames is handled.
fn check_parts(body: &Bytes) -> ApiResult<()> {
    for (index, part) in parts_of(&body[REQUEST_HEADER_BYTES..]).enumerate() {
        let part = part.map_err(|error| Problem::malformed(error.to_string()))?;
        if index >= MAX_PARTS {
            return Err(Problem::malformed(format!("a body has at most {MAX_PARTS} parts")));
        }
        match part {
            PartRef::Close { .. } => {}
            PartRef::Text("") | PartRef::Binary([]) => {
                return Err(Problem::malformed("a part of the body is empty".into()));
            }
            PartRef::Text(text) if text.len() > MAX_FRAME_BYTES => {
                return Err(Problem::of_close(CloseCode::FrameTooBig));
            }
            PartRef::Binary(bytes) if bytes.len() > MAX_FRAME_BYTES => {
                return Err(Problem::of_close(CloseCode::FrameTooBig));
            }
            PartRef::Text(_) | PartRef::Binary(_) => {}
        }
    }
    Ok(())
}

/// The frames of a checked body, decoded one at a time: a list of them could take many times the
/// memory of the body. They share its bytes.
fn messages_of(body: &Bytes) -> impl Iterator<Item = AgentMessage> {
    parts_of(&body[REQUEST_HEADER_BYTES..]).map_while(Result::ok).map(|part| match part {
        PartRef::Text(text) => AgentMessage::Text(body.slice_ref(text.as_bytes())),
        PartRef::Binary(bytes) => AgentMessage::Binary(body.slice_ref(bytes)),
        PartRef::Close { .. } => AgentMessage::Closed,
    })
}

#[cfg(test)]
mod tests {
    use muster_protocol::frame::exchange::{ExchangePart, ExchangeRequest};

    use super::*;

    fn body(parts: Vec<ExchangePart>) -> Bytes {
        let session_id = Uuid::nil();
        ExchangeRequest { session_id, sequence: 1, wait_ms: 0, parts }.encode().into()
    }

    #[test]
    fn body_of_empty_parts_or_of_too_many_is_refused() {
        let text = |content: &str| ExchangePart::Text(content.into());
        assert!(check_parts(&body(vec![text("{}"); MAX_PARTS])).is_ok());
        assert!(check_parts(&body(vec![text("{}"); MAX_PARTS + 1])).is_err());
        assert!(check_parts(&body(vec![text("{}"), text("")])).is_err());
        assert!(check_parts(&body(vec![ExchangePart::Binary(Vec::new())])).is_err());
        assert!(check_parts(&body(Vec::new())).is_ok());
    }

    #[test]
    fn frames_are_decoded_one_at_a_time_and_keep_the_body() {
        let body = body(vec![ExchangePart::Text("{}".into()), ExchangePart::Binary(vec![7])]);
        let mut messages = messages_of(&body);
        let Some(AgentMessage::Text(text)) = messages.next() else { panic!("a text") };
        assert_eq!(text, "{}");
        assert!(matches!(messages.next(), Some(AgentMessage::Binary(_))));
        assert!(messages.next().is_none());
        drop(messages);
        assert!(!body.is_unique(), "the text shares its bytes");
        drop(text);
        assert!(body.is_unique());
    }
}
