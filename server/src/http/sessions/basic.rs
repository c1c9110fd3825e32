//! The three endpoints of basic agents: heartbeat, poll, result.
//!
//! A key whose agent polls has one session, opened by its first request and ended by silence.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use muster_protocol::frame::exchange::ExchangePart;
use muster_protocol::frame::{AgentFrame, Heartbeat, Receipt, Registration, Response};
use muster_protocol::limits::MAX_POLL_WAIT_MS;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::relay::{FetchedFrames, Relay, relay};
use super::{Admitted, AdmittedBody};
use crate::domain::certificates::client_certificate::PeerCertificate;
use crate::domain::fleet::agent::Transport;
use crate::domain::ids::AgentKeyId;
use crate::http::AppState;
use crate::http::extract::{Body, Params, wait};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::authentication::AdmittedKey;
use crate::services::sessions::{AgentMessage, SessionRequest};

/// Bytes of commands that one poll answers with.
const MAX_POLL_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(post_heartbeat))
        .routes(routes!(poll_commands))
        .routes(routes!(post_result))
}

/// The sessions of polling agents, by key.
#[derive(Clone, Default)]
pub struct PollSessions(Arc<Mutex<HashMap<AgentKeyId, Arc<Relay>>>>);

/// A heartbeat. Free-form; the fields of `register` can be in `data` or beside `status`.
#[derive(Debug, Deserialize, ToSchema)]
struct HeartbeatBody {
    #[serde(default)]
    #[schema(value_type = Object)]
    status: Map<String, Value>,
    #[schema(value_type = Option<Object>)]
    data: Option<Registration>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    beside: Registration,
}

#[derive(Debug, Serialize, ToSchema)]
struct HeartbeatView {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
}

/// Waiting commands, as `command` frames.
#[derive(Debug, Serialize, ToSchema)]
struct PollView {
    #[schema(value_type = Vec<Object>)]
    commands: Vec<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct ResultBody {
    command_id: Uuid,
    /// A `response` frame; its `command_id` can be left out.
    #[schema(value_type = Object)]
    result: Map<String, Value>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ResultView {
    recorded: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PollParams {
    /// How long to wait for a command, in milliseconds, at most 30000.
    #[serde(default)]
    wait_ms: u64,
}

/// Send a heartbeat of a basic agent.
#[utoipa::path(post, path = "/api/agents/heartbeat", tag = "agent link", request_body = HeartbeatBody,
    responses((status = 200, body = HeartbeatView), (status = 401, body = Problem), (status = 409, body = Problem), (status = 410, body = Problem)))]
async fn post_heartbeat(
    State(state): State<AppState>,
    AdmittedBody { admission, permit: _permit }: AdmittedBody,
    Body(body): Body<HeartbeatBody>,
) -> ApiResult<axum::Json<HeartbeatView>> {
    let registration = body.data.unwrap_or(body.beside);
    let relay = state.polls.find_or_open(&state, admission, registration)?;
    let frame = AgentFrame::Heartbeat(Heartbeat { status: body.status });
    push(&relay, &frame).await?;
    // A session that is refused, for example because the key's agent is a full one, takes none.
    if !relay.registered().await {
        return Err(closed(&relay));
    }
    let timestamp = state.clock.now().to_string();
    Ok(axum::Json(HeartbeatView { kind: "heartbeat_ack", timestamp }))
}

/// Fetch the waiting commands of a basic agent.
#[utoipa::path(get, path = "/api/agents/poll", tag = "agent link", params(PollParams),
    responses((status = 200, body = PollView), (status = 401, body = Problem), (status = 409, body = Problem), (status = 410, body = Problem)))]
async fn poll_commands(
    State(state): State<AppState>,
    Admitted(admission): Admitted,
    Params(params): Params<PollParams>,
) -> ApiResult<axum::Json<PollView>> {
    let wait = Duration::from_millis(wait(params.wait_ms, MAX_POLL_WAIT_MS)?);
    let relay = state.polls.find_or_open(&state, admission, Registration::default())?;
    relay.push(AgentMessage::KeepAlive).await;
    let deadline = tokio::time::Instant::now() + wait;
    let mut commands = Vec::new();
    loop {
        commands.extend(relay.take(MAX_POLL_BYTES).iter().filter_map(command_of));
        if !commands.is_empty()
            || tokio::time::timeout_at(deadline, relay.wait_for_frames()).await.is_err()
        {
            return Ok(axum::Json(PollView { commands }));
        }
        if let Some(code) = relay.close_code() {
            return Err(Problem::of_close(code));
        }
    }
}

/// Report the result of a command. The response follows its commit.
#[utoipa::path(post, path = "/api/agents/result", tag = "agent link", request_body = ResultBody,
    responses((status = 200, body = ResultView), (status = 401, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 410, body = Problem)))]
async fn post_result(
    State(state): State<AppState>,
    AdmittedBody { admission, permit: _permit }: AdmittedBody,
    Body(body): Body<ResultBody>,
) -> ApiResult<axum::Json<ResultView>> {
    let mut result = body.result;
    result.insert("command_id".into(), Value::String(body.command_id.to_string()));
    let response: Response = serde_json::from_value(Value::Object(result))
        .map_err(|error| Problem::invalid_body(format!("`result`: {error}")))?;
    let relay = state.polls.find_or_open(&state, admission, Registration::default())?;
    let (told, receipt) = oneshot::channel();
    relay.push(AgentMessage::Report(Box::new(response), told)).await;
    match receipt.await.map_err(|_| closed(&relay))? {
        Receipt::Recorded | Receipt::Late => Ok(axum::Json(ResultView { recorded: true })),
        Receipt::UnknownCommand => Err(Problem::unknown_command()),
    }
}

async fn push(relay: &Relay, frame: &AgentFrame) -> ApiResult<()> {
    let text =
        serde_json::to_vec(frame).map_err(|error| Problem::invalid_body(error.to_string()))?;
    if relay.push(AgentMessage::Text(text.into())).await { Ok(()) } else { Err(closed(relay)) }
}

fn closed(relay: &Relay) -> Problem {
    relay.close_code().map_or_else(Problem::storage, Problem::of_close)
}

/// A part that is a `command` frame; basic agents over HTTP are sent nothing else.
fn command_of(part: &ExchangePart) -> Option<Value> {
    let ExchangePart::Text(text) = part else { return None };
    let frame: Value = serde_json::from_str(text).ok()?;
    (frame.get("type")?.as_str()? == "command").then_some(frame)
}

impl PollSessions {
    fn find_or_open(
        &self,
        state: &AppState,
        admission: AdmittedKey,
        registration: Registration,
    ) -> ApiResult<Arc<Relay>> {
        let source = admission.source;
        if admission.grant.max_agents > 1 {
            return Err(Problem::ambiguous_agent());
        }
        let key_id = admission.grant.key_id;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(relay) = sessions.get(&key_id)
            && !relay.is_closed()
        {
            return Ok(Arc::clone(relay));
        }
        let (handle, transport) = relay(FetchedFrames::CommandsOnly);
        let handle = Arc::new(handle);
        sessions.insert(key_id, Arc::clone(&handle));
        let (services, map, mine) = (state.services.clone(), self.clone(), Arc::clone(&handle));
        // An agent of these endpoints is a basic one, regardless of what it reports.
        let implied = Some(Box::new(Registration { protocol: None, ..registration }));
        tokio::spawn(async move {
            let origin = SessionRequest {
                grant: admission.grant,
                secret_hash: admission.secret_hash,
                transport: Transport::Http,
                implied_registration: implied,
                is_key_in_query: false,
                source,
                // A basic agent has no key pair that a certificate could be for.
                certificate: PeerCertificate::Unknown,
            };
            services.sessions.run(origin, transport).await;
            let mut sessions = map.0.lock().unwrap_or_else(PoisonError::into_inner);
            if sessions.get(&key_id).is_some_and(|current| Arc::ptr_eq(current, &mine)) {
                sessions.remove(&key_id);
            }
        });
        Ok(handle)
    }
}
