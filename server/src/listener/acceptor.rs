//! The socket, and the loop that accepts connections.
//!
//! `axum::serve` has no time limits. This loop counts connections until they end, and ends those that are idle
//! or too slow.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::bounded::{Bounded, ConnectionSlot};
use super::connection::{ConnectionServer, Peer};
use super::handshake::secure;
use super::limits::Limits;
use super::refusal::refuse;
use super::renewal::{Certificate, TlsSettings};
use super::source_limiter::SourceLimiter;
use crate::domain::certificates::client_certificate::PeerCertificate;

/// Pause after a failure to accept: an immediate attempt would fail in the same way.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Interval between two warnings that no slot is free.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("failed to listen on {address}: {source}{}", hint(source))]
    Bind { address: String, source: io::Error },
}

/// What a person can do about it; empty if the error is clear without it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program uses this port",
        io::ErrorKind::InvalidInput => "; use ADDRESS:PORT, such as 127.0.0.1:8080",
        io::ErrorKind::PermissionDenied => {
            "; use a port from 1024, or permit the service lower ones"
        }
        _ => "",
    }
}

/// A bound socket that accepts no connections yet.
#[derive(Debug)]
pub struct Bound {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<watch::Receiver<TlsSettings>>,
    limits: Limits,
    slots: Arc<Semaphore>,
    sources: SourceLimiter,
    warned_at: Option<Instant>,
}

impl Bound {
    /// Binds to an address such as `127.0.0.1:8080`. With a certificate, every connection is
    /// secured.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(
        address: &str,
        certificate: Option<&Certificate>,
        limits: Limits,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { address: address.to_owned(), source };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        let tls = certificate.map(Certificate::settings);
        let slots = Arc::new(Semaphore::new(limits.connections));
        let sources = SourceLimiter::new(limits.per_source, limits.trusted_proxies.clone());
        Ok(Self { tcp, address, tls, limits, slots, sources, warned_at: None })
    }

    /// `https://` or `http://`, and the address.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stopped` turns true, then accepts no more connections and waits until the open requests
    /// are answered. When dropped, every connection that is not a WebSocket ends.
    pub async fn serve(mut self, app: Router, mut stopped: watch::Receiver<bool>) {
        let server = Arc::new(ConnectionServer::new(app, &self.limits));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                (stream, peer, slot) = self.accept() => {
                    let Some(of_source) = self.sources.admit(peer.ip()) else {
                        tracing::debug!(%peer, "refused a connection: its source has too many");
                        // Over TLS, the handshake for an answer would cost what the limit saves.
                        if self.tls.is_none() {
                            connections.spawn(refuse(stream, slot));
                        }
                        continue;
                    };
                    let slot = ConnectionSlot { of_all: slot, of_source };
                    let (server, mut stopped) = (Arc::clone(&server), stopped.clone());
                    let settings = self.tls.as_ref().map(|tls| tls.borrow().clone());
                    let Limits { handshake, answer, .. } = &self.limits;
                    let (handshake, answer) = (*handshake, *answer);
                    connections.spawn(async move {
                        let Some(TlsSettings { config, clients }) = settings else {
                            let stream = Bounded::new(stream, answer, slot);
                            let activity = stream.activity();
                            let certificate = PeerCertificate::Unknown;
                            let peer = Peer { address: peer, certificate };
                            return server.serve(stream, peer, activity, stopped).await;
                        };
                        let secured = tokio::select! {
                            secured = secure(stream, config, handshake) => secured,
                            _ = stopped.changed() => return,
                        };
                        match secured {
                            Ok(stream) => {
                                let chain = stream.get_ref().1.peer_certificates();
                                let certificate =
                                    clients.map(|clients| clients.check(chain)).unwrap_or_default();
                                let peer = Peer { address: peer, certificate };
                                let stream = Bounded::new(stream, answer, slot);
                                let activity = stream.activity();
                                server.serve(stream, peer, activity, stopped).await;
                            }
                            Err(error) => tracing::debug!(%peer, %error, "the handshake failed"),
                        }
                    });
                }
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection failed");
                    }
                }
                _ = stopped.changed() => break,
            }
        }
        drop(self.tcp);
        while connections.join_next().await.is_some() {}
    }

    /// The next connection, once there is a slot for it. Dropping the future loses none.
    async fn accept(&mut self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let slot = self.slot().await;
        loop {
            match self.tcp.accept().await {
                Ok((stream, peer)) => {
                    // Frames are small, and are sent without delay.
                    let _ = stream.set_nodelay(true);
                    return (stream, peer, slot);
                }
                // The client closed it before it was accepted.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "failed to accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn slot(&mut self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return slot;
            }
            if self.warned_at.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
                self.warned_at = Some(Instant::now());
                tracing::warn!(
                    connections = self.limits.connections,
                    "the limit of connections is reached; more wait until one ends (see \
                     --max-connections and the limit of open files)"
                );
            }
            // Waits for a free slot; the loop takes it. The semaphore is never closed.
            let _ = self.slots.acquire().await;
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
