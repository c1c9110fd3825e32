//! A receiver of webhooks of the test's own: it takes what comes, and answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use data_encoding::BASE64;
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::eventually;

/// What a receiver does with a message.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// Answers with this status, these headers and this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Takes it and never answers.
    Silence,
}

/// A message that has arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Desk {
    received: Mutex<Vec<Received>>,
    reactions: Mutex<VecDeque<Reaction>>,
}

/// A receiver on a port of this machine. It ends when dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    desk: Arc<Desk>,
    serving: JoinHandle<()>,
}

impl Reaction {
    /// An answer of nothing but a status.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, vec![], String::new())
    }
}

impl Received {
    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a message is JSON")
    }

    /// True if one of the signatures is by this secret (`whsec_…`), as the specification has it.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = secret.strip_prefix("whsec_").expect("a secret");
        let key = BASE64.decode(key.as_bytes()).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let head = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp"));
        let signed = [head.as_bytes(), &self.body].concat();
        self.header("webhook-signature").split(' ').any(|signature| {
            let signature = signature.strip_prefix("v1,").expect("version 1");
            let signature = BASE64.decode(signature.as_bytes()).expect("base64");
            hmac::verify(&key, &signed, &signature).is_ok()
        })
    }
}

impl Receiver {
    /// A receiver that reacts like this, message by message, and takes all that come after.
    pub async fn start(reactions: impl IntoIterator<Item = Reaction>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("listen"), reactions)
    }

    /// [`Receiver::start`], where the caller listens.
    pub fn on(listener: TcpListener, reactions: impl IntoIterator<Item = Reaction>) -> Self {
        let address = listener.local_addr().expect("a bound address");
        let desk = Arc::new(Desk::default());
        desk.reactions.lock().unwrap_or_else(PoisonError::into_inner).extend(reactions);
        let app = Router::new().fallback(take).with_state(Arc::clone(&desk));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Self { address, desk, serving }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where messages are to go: `http://127.0.0.1:PORT/hook`.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Everything that has arrived, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.desk.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many have arrived.
    pub async fn receives(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} messages arrive"), async || {
            Some(self.received()).filter(|received| received.len() >= count)
        })
        .await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    State(desk): State<Arc<Desk>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.to_string();
    let received = Received { path, headers, body: body.to_vec() };
    desk.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    let reaction = desk.reactions.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
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
