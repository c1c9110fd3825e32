//! Ends what an API key or a session has under way when it ends: long polls, downloads and uploads.
//!
//! Handlers need not know of it. Event streams check their rights themselves before each event.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use tokio::sync::oneshot;

use super::problem::Problem;
use crate::services::access::keys::key_watch::KeyWatch;

/// Where the extractor of the caller puts the watch on its key, once.
#[derive(Clone)]
pub(super) struct KeySlot(Arc<Mutex<Option<oneshot::Sender<KeyWatch>>>>);

impl KeySlot {
    /// The request is that of a valid key.
    pub(super) fn set(&self, watch: KeyWatch) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Fails if the caller has hung up.
            let _ = sender.send(watch);
        }
    }
}

/// Runs a request until it is answered, or until its API key is revoked or expires.
///
/// What the request changes runs to its end all the same, or is refused by the writer. Only those that
/// may end the key or the session that they come with are always answered.
pub(super) async fn end_with_key(mut request: Request, next: Next) -> Response {
    if may_end_its_own_key(&request) {
        return next.run(request).await;
    }
    let (sender, receiver) = oneshot::channel();
    request.extensions_mut().insert(KeySlot(Arc::new(Mutex::new(Some(sender)))));
    let (cut, is_cut) = oneshot::channel::<()>();
    if !request.body().is_end_stream() {
        request = request.map(|body| {
            let ended = async {
                // An error is a request that was answered.
                if is_cut.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            cut_off(body, Box::pin(ended))
        });
    }
    let mut receiver = receiver;
    let mut watch = None;
    let ended = async {
        match (&mut receiver).await {
            Ok(found) => watch.insert(found).ended().await,
            // The request is not one of an API key.
            Err(_) => std::future::pending().await,
        }
    };
    let response = tokio::select! {
        biased;
        response = next.run(request) => response,
        reason = ended => {
            // Fails if the body was read.
            let _ = cut.send(());
            return Problem::from(reason).into_response();
        }
    };
    // The watch may have been set after this future was polled last.
    match watch.or_else(|| receiver.try_recv().ok()) {
        Some(watch) if outlasts_its_request(&response) => response.map(|body| {
            let mut watch = watch;
            cut_off(
                body,
                Box::pin(async move {
                    watch.ended().await;
                }),
            )
        }),
        _ => response,
    }
}

/// True for deletions, for what ends or replaces the session of its caller, and for changes of members
/// and of API keys, one of which may be the caller: only the answer to a rotation has the new secret.
fn may_end_its_own_key(request: &Request) -> bool {
    let path = request.uri().path();
    request.method() == Method::DELETE
        || matches!(path, "/api/auth/logout" | "/api/auth/switch")
        || path.starts_with("/api/members/")
        || path.starts_with("/api/keys/")
}

/// True for an answer that is still being read from somewhere.
fn outlasts_its_request(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_event_stream =
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    response.body().size_hint().exact().is_none() && !is_event_stream
}

/// The body until `ended` is over; then it breaks off, so that it is not taken for a complete one.
fn cut_off(body: Body, mut ended: Pin<Box<dyn Future<Output = ()> + Send>>) -> Body {
    let mut body = body.into_data_stream();
    let mut is_over = false;
    Body::from_stream(stream::poll_fn(move |context| {
        if is_over {
            return Poll::Ready(None);
        }
        if ended.as_mut().poll(context).is_ready() {
            is_over = true;
            let error = io::Error::other("the API key or the session has ended");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        body.poll_next_unpin(context)
    }))
}
