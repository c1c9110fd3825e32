//! The socket, and the loop that accepts its connections.
//!
//! `axum::serve` limits no wait. Here, connections are counted until they end, and each wait has a
//! limit of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::bounded::Bounded;
use super::connection::Carrier;
use super::handshake::secure;
use super::limits::Limits;
use super::renewal::Certificate;

/// Pause after a connection could not be accepted: an attempt at once would fail in the same way.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Time between two warnings that the limit of connections is reached.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("listen on {address}: {source}; is the port taken?")]
    Bind { address: String, source: io::Error },
}

/// A bound socket that accepts no connections yet.
#[derive(Debug)]
pub struct Bound {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    limits: Limits,
    permits: Arc<Semaphore>,
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
        let permits = Arc::new(Semaphore::new(limits.connections));
        Ok(Self { tcp, address, tls, limits, permits, warned_at: None })
    }

    /// `https://` or `http://`, and the address.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stopped` turns true, then accepts no more connections and waits until all
    /// requests are answered. When dropped, every connection that is not a WebSocket ends.
    pub async fn serve(mut self, app: Router, mut stopped: watch::Receiver<bool>) {
        let carrier = Arc::new(Carrier::new(app, self.limits));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                (stream, peer, permit) = self.accept() => {
                    let (carrier, mut stopped) = (Arc::clone(&carrier), stopped.clone());
                    let settings = self.tls.as_ref().map(|tls| Arc::clone(&tls.borrow()));
                    let Limits { handshake, answer, .. } = self.limits;
                    connections.spawn(async move {
                        let Some(settings) = settings else {
                            let stream = Bounded::new(stream, answer, permit);
                            let activity = stream.activity();
                            return carrier.carry(stream, peer, activity, stopped).await;
                        };
                        let secured = tokio::select! {
                            secured = secure(stream, settings, handshake) => secured,
                            _ = stopped.changed() => return,
                        };
                        match secured {
                            Ok(stream) => {
                                let stream = Bounded::new(stream, answer, permit);
                                let activity = stream.activity();
                                carrier.carry(stream, peer, activity, stopped).await;
                            }
                            Err(error) => tracing::debug!(%peer, %error, "no connection"),
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

    /// Accepts the next connection, once the limit permits it. Dropping the future loses none.
    async fn accept(&mut self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let permit = self.permit().await;
        loop {
            match self.tcp.accept().await {
                Ok((stream, peer)) => {
                    // Frames are small and must leave at once.
                    let _ = stream.set_nodelay(true);
                    return (stream, peer, permit);
                }
                // The client has gone already.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "failed to accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn permit(&mut self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return permit;
            }
            if self.warned_at.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
                self.warned_at = Some(Instant::now());
                tracing::warn!(
                    connections = self.limits.connections,
                    "the limit of connections is reached; more wait until one ends (see \
                     --max-connections and the limit of open files)"
                );
            }
            // The semaphore is never closed, and the permit is acquired above.
            let _ = self.permits.acquire().await;
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
