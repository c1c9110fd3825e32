//! `/ws/agent`: the agents' socket, and nothing but the socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use futures_util::SinkExt as _;
use muster_protocol::CloseCode;
use muster_protocol::frame::ServerFrame;
use muster_protocol::limits::MAX_FRAME_BYTES;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use crate::domain::access::credential::presented;
use crate::domain::certificates::client_certificate::PeerCertificate;
use crate::domain::fleet::agent::Transport;
use crate::domain::source::ClientSource;
use crate::services::Services;
use crate::services::access::authentication::{AgentRefusal, Authentication};
use crate::services::sessions::{
    Activity, AgentMessage, AgentTransport, SessionRequest, Sessions, TransportEnd,
};

/// An idle connection holds no more than this each way; both grow on use.
const BUFFER_BYTES: usize = 4 * 1024;
/// How long an agent may take to read what it is sent.
const WRITE_WAIT: Duration = Duration::from_secs(30);
/// How long an agent may take to answer a close before the connection is dropped.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// What a connection needs. Each connection has its own copy.
#[derive(Clone)]
struct WsState {
    authentication: Arc<Authentication>,
    sessions: Arc<Sessions>,
}

/// The one route.
pub fn router(services: &Services) -> Router {
    let state = WsState {
        authentication: Arc::new(services.authentication.clone()),
        sessions: Arc::clone(&services.sessions),
    };
    Router::new().route("/ws/agent", get(connect)).with_state(state)
}

#[derive(Deserialize)]
struct ConnectParams {
    api_key: Option<String>,
}

/// Completes the upgrade for every key, because a client can read the reason of a refusal only
/// after it.
async fn connect(
    State(state): State<WsState>,
    headers: HeaderMap,
    client: Option<Extension<ConnectInfo<SocketAddr>>>,
    activity: Option<Extension<Activity>>,
    certificate: Option<Extension<PeerCertificate>>,
    Query(params): Query<ConnectParams>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let in_header = presented(text("authorization"), text("x-api-key")).map(str::to_owned);
    let in_query = params.api_key.filter(|secret| !secret.is_empty());
    let is_key_in_query = in_header.is_none() && in_query.is_some();
    let source = client.map(|Extension(ConnectInfo(address))| ClientSource::of(address.ip()));
    let admitted = match in_header.or(in_query) {
        None => Err(CloseCode::KeyMissing),
        Some(secret) => match state.authentication.authenticate_agent(&secret, source).await {
            Ok(admission) => Ok(admission),
            Err(AgentRefusal::Close(code)) => Err(code),
            Err(AgentRefusal::TooMany | AgentRefusal::Store(_)) => Err(CloseCode::TryAgainLater),
        },
    };
    let sessions = state.sessions;
    let activity = activity.map(|Extension(activity)| activity);
    let certificate = certificate.map(|Extension(shown)| shown).unwrap_or_default();
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(2 * MAX_FRAME_BYTES)
        .max_message_size(MAX_FRAME_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .on_upgrade(move |socket| {
            // Boxed, because a session moves it from future to future, and each would reserve its
            // size.
            let mut link = Socket { socket: Box::new(socket), activity };
            async move {
                match admitted {
                    Err(code) => link.close(code).await,
                    Ok(admission) => {
                        let origin = SessionRequest {
                            grant: admission.grant,
                            secret_hash: admission.secret_hash,
                            transport: Transport::Websocket,
                            implied_registration: None,
                            is_key_in_query,
                            source,
                            certificate,
                        };
                        sessions.run(origin, link).await;
                    }
                }
            }
        })
}

struct Socket {
    socket: Box<WebSocket>,
    activity: Option<Activity>,
}

impl AgentTransport for Socket {
    async fn receive(&mut self) -> Result<AgentMessage, TransportEnd> {
        match self.socket.recv().await {
            Some(Ok(Message::Text(text))) => Ok(AgentMessage::Text(text.into())),
            Some(Ok(Message::Binary(bytes))) => Ok(AgentMessage::Binary(bytes)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(AgentMessage::KeepAlive),
            Some(Ok(Message::Close(_))) => Ok(AgentMessage::Closed),
            None => Err(TransportEnd::Gone),
            Some(Err(error)) => Err(transport_end(error)),
        }
    }

    fn last_arrival_at(&self) -> Option<Instant> {
        self.activity.as_ref().map(Activity::last_at)
    }

    async fn feed(&mut self, frame: &ServerFrame) -> Result<(), TransportEnd> {
        let text = serde_json::to_string(frame).map_err(|_| TransportEnd::Violation)?;
        in_time(self.socket.feed(Message::Text(text.into()))).await
    }

    async fn flush(&mut self) -> Result<(), TransportEnd> {
        in_time(self.socket.flush()).await
    }

    async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame { code: code.code(), reason: code.reason().into() };
        // Read on until the agent has answered: what it still sends would otherwise reset the
        // connection before it has read the code.
        let close = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        let _ = tokio::time::timeout(CLOSE_WAIT, close).await;
    }
}

/// Waits for a write, but not for ever: an agent that does not read is gone.
async fn in_time(write: impl Future<Output = Result<(), axum::Error>>) -> Result<(), TransportEnd> {
    match tokio::time::timeout(WRITE_WAIT, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(TransportEnd::Gone),
    }
}

/// Distinguishes a frame above the limit from a broken connection.
fn transport_end(error: axum::Error) -> TransportEnd {
    match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => TransportEnd::TooBig,
        // A connection may break without a close frame; that is no violation of the protocol.
        Some(tungstenite::Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::SendAfterClosing
            | ProtocolError::ReceivedAfterClosing,
        )) => TransportEnd::Gone,
        Some(tungstenite::Error::Protocol(_) | tungstenite::Error::Utf8(_)) => {
            TransportEnd::Violation
        }
        _ => TransportEnd::Gone,
    }
}
