//! One connection, from its first byte to its end or to its upgrade.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::limits::Limits;
use super::paced_body::PacedBody;
use crate::domain::certificates::client_certificate::PeerCertificate;
use crate::domain::source::TrustedProxies;
use crate::services::sessions::Activity;

/// Interval of pings over HTTP/2, and how long the peer may take to answer one.
const LIFE_INTERVAL: Duration = Duration::from_secs(30);
const LIFE_WAIT: Duration = Duration::from_secs(20);

/// How long an answer may still take after its connection accepts no more requests.
const LEAVE_WAIT: Duration = Duration::from_secs(3_600);
/// Concurrent requests of one HTTP/2 connection: several times what a dashboard needs.
const MAX_STREAMS: u32 = 32;
/// Largest head of an HTTP/1 request, and how much of a body is buffered. HTTP/2 allows 16 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// What it presented in the TLS handshake.
    pub(super) certificate: PeerCertificate,
}

/// Serves HTTP over connections; one for all of them.
#[derive(Debug)]
pub(super) struct ConnectionServer {
    http: Builder<TokioExecutor>,
    app: Router,
    request_head: Duration,
    trusted_proxies: Arc<TrustedProxies>,
}

impl ConnectionServer {
    pub(super) fn new(app: Router, limits: &Limits) -> Self {
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
        let trusted_proxies = Arc::new(limits.trusted_proxies.clone());
        Self { http, app, request_head: limits.request_head, trusted_proxies }
    }

    /// Serves one connection until it ends or is upgraded, or until the server stops and has answered its
    /// open requests.
    pub(super) async fn serve<S>(
        &self,
        stream: S,
        peer: Peer,
        activity: Activity,
        mut stopped: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Peer { address: peer, certificate } = peer;
        let requests = Arc::new(AtomicU64::new(0));
        let (counter, pause) = (Arc::clone(&requests), self.request_head);
        let trusted_proxies = Arc::clone(&self.trusted_proxies);
        let app = self.app.clone().map_request(move |request: Request<Incoming>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let mut request = request.map(|body| Body::new(PacedBody::new(body, pause)));
            let client = client_address(&trusted_proxies, peer, request.headers());
            request.extensions_mut().insert(ConnectInfo(client));
            request.extensions_mut().insert(activity.clone());
            request.extensions_mut().insert(certificate);
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
                    let begun = requests.load(Ordering::Relaxed);
                    if is_leaving || begun == 0 {
                        tracing::debug!(%peer, begun, "a connection took too long");
                        return;
                    }
                    wait = Limits::IDLE;
                    if begun == seen {
                        // Open requests are still answered; new ones are not accepted.
                        is_leaving = true;
                        connection.as_mut().graceful_shutdown();
                        wait = LEAVE_WAIT;
                    }
                    seen = begun;
                }
            }
        }
    }
}

/// Where a request comes from: the peer, or the client that a trusted proxy names.
fn client_address(trusted: &TrustedProxies, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
    if !trusted.contains(peer.ip()) {
        return peer;
    }
    let values = headers.get_all(FORWARDED_FOR);
    // A value that is not text ends the list, like one that is not an address.
    let values: Vec<&str> = values.iter().map(|value| value.to_str().unwrap_or_default()).collect();
    match trusted.client(peer.ip(), values.into_iter()) {
        address if address == peer.ip() => peer,
        // The port is the proxy's own.
        address => SocketAddr::new(address, 0),
    }
}
