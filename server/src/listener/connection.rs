//! One connection, from its first byte to its end or to its upgrade.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::limits::Limits;
use super::paced_body::PacedBody;
use crate::services::sessions::Activity;

/// HTTP/2: time between two pings, and time to answer one.
const LIFE_INTERVAL: Duration = Duration::from_secs(30);
const LIFE_WAIT: Duration = Duration::from_secs(20);

/// How long the last answer of a connection may take that sends no more requests.
const LEAVE_WAIT: Duration = Duration::from_secs(3_600);
/// Requests at once over one HTTP/2 connection.
const MAX_STREAMS: u32 = 32;
/// Largest head of an HTTP/1 request, and most of a body that is read ahead. HTTP/2 has 16 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Carrier {
    http: Builder<TokioExecutor>,
    app: Router,
    request_head: Duration,
}

impl Carrier {
    pub(super) fn new(app: Router, limits: Limits) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        // Covers the time between two requests too.
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Limits::IDLE)
            .max_buf_size(BUFFER_BYTES);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(LIFE_INTERVAL)
            .keep_alive_timeout(LIFE_WAIT);
        Self { http, app, request_head: limits.request_head }
    }

    /// Serves one connection until it ends, is upgraded, or the server stops and its requests are
    /// answered.
    pub(super) async fn carry<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        activity: Activity,
        mut stopped: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requests = Arc::new(AtomicU64::new(0));
        let (counter, pause) = (Arc::clone(&requests), self.request_head);
        let app = self.app.clone().map_request(move |request: Request<Incoming>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let mut request = request.map(|body| Body::new(PacedBody::new(body, pause)));
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(activity.clone());
            request
        });
        let service = TowerToHyperService::new(app);
        let mut connection =
            pin!(self.http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut seen = 0;
        let mut wait = self.request_head;
        let mut is_leaving = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, error, "a connection ended in an error");
                    }
                    return;
                }
                _ = stopped.changed(), if !is_leaving => {
                    is_leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = tokio::time::sleep(wait) => {
                    let count = requests.load(Ordering::Relaxed);
                    if is_leaving || count == 0 {
                        tracing::debug!(%peer, requests = count, "a connection took too long");
                        return;
                    }
                    wait = Limits::IDLE;
                    if count == seen {
                        // Requests in progress are answered; no more are accepted.
                        is_leaving = true;
                        connection.as_mut().graceful_shutdown();
                        wait = LEAVE_WAIT;
                    }
                    seen = count;
                }
            }
        }
    }
}
