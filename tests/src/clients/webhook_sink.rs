//! A receiver of webhooks: it records each message and answers as the test sets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::eventually;

/// How a sink answers a message.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// Answers with this status, these headers and this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Accepts the message and never answers.
    Silence,
}

/// A received message.
#[derive(Debug, Clone)]
pub struct ReceivedMessage {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct SinkState {
    received: Mutex<Vec<ReceivedMessage>>,
    reactions: Mutex<VecDeque<Reaction>>,
}

/// A receiver on a port of this machine. It stops when dropped.
#[derive(Debug)]
pub struct WebhookSink {
    address: SocketAddr,
    state: Arc<SinkState>,
    serving: JoinHandle<()>,
}

impl Reaction {
    /// An answer with a status only.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, vec![], String::new())
    }
}

impl ReceivedMessage {
    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a message is JSON")
    }

    /// True if one of the signatures is by this secret (`whsec_…`), according to the verifier that
    /// the specification's authors publish. All of them must be of version 1.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let mut signatures = self.header("webhook-signature").split(' ');
        assert!(signatures.all(|signature| signature.starts_with("v1,")), "{:?}", self.headers);
        let webhook = Webhook::new(secret).expect("a secret");
        webhook.verify(&self.body, &self.headers).is_ok()
    }
}

impl WebhookSink {
    /// A receiver that reacts to one message after another as listed, and accepts all further ones.
    pub async fn start(reactions: impl IntoIterator<Item = Reaction>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("listen"), reactions)
    }

    /// [`WebhookSink::start`] on the caller's listener.
    pub fn on(listener: TcpListener, reactions: impl IntoIterator<Item = Reaction>) -> Self {
        let address = listener.local_addr().expect("a bound address");
        let state = Arc::new(SinkState::default());
        state.reactions.lock().unwrap_or_else(PoisonError::into_inner).extend(reactions);
        let app = Router::new().fallback(take).with_state(Arc::clone(&state));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Self { address, state, serving }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The URL for messages: `http://127.0.0.1:PORT/hook`.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// All received messages, oldest first.
    pub fn received(&self) -> Vec<ReceivedMessage> {
        self.state.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for this many messages.
    pub async fn receives(&self, count: usize) -> Vec<ReceivedMessage> {
        eventually(&format!("{count} messages arrive"), async || {
            Some(self.received()).filter(|received| received.len() >= count)
        })
        .await
    }
}

impl Drop for WebhookSink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    State(state): State<Arc<SinkState>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.to_string();
    let received = ReceivedMessage { path, headers, body: body.to_vec() };
    state.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    let reaction = state.reactions.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    match reaction {
        None => StatusCode::OK.into_response(),
        Some(Reaction::Silence) => std::future::pending().await,
        Some(Reaction::Answer(status, headers, body)) => {
            let mut response = body.into_response();
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().expect("a header"));
            }
            response
        }
    }
}
