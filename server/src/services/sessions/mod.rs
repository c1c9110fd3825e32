//! Sessions of agents: one implementation for all transports.
//!
//! An edge passes an authenticated key and an [`AgentTransport`] to [`Sessions::run`], which runs the
//! session from `connected` to its end. Everything that an agent sends is hostile input: the
//! transport limits sizes, the session limits rates and counts.

mod activity;
mod byte_limiter;
mod certificates;
mod commit_ack;
mod connection_limiter;
mod deregistration;
mod enrolment_ticket;
mod inbound;
mod inbound_quota;
mod live;
mod opening;
mod output_tracker;
mod plan_refusals;
#[cfg(test)]
mod tests;
mod transport;
mod update_results;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_protocol::CloseCode;
use muster_protocol::frame::{Registration, ServerFrame};
use muster_protocol::identity::Challenge;
use serde_json::json;
use tokio::sync::Semaphore;

pub use self::activity::Activity;
use self::byte_limiter::ByteLimiter;
pub use self::byte_limiter::{BytePermit, SessionBytes};
use self::connection_limiter::{ConnectionLimiter, ConnectionPermit};
use self::plan_refusals::PlanRefusals;
pub use self::transport::{AgentMessage, AgentTransport, TransportEnd};
use super::Settings;
use super::access::caller::{AuditAction, Subject};
use super::access::keys::key_cache::KeyCache;
use super::certificates::client_certificates::ClientCertificates;
use super::commands::preflight::ManifestCache;
use super::fleet::group_membership::GroupMembership;
use super::freed_memory::FreedMemory;
use super::releases::catalog::ReleaseCatalog;
use crate::domain::access::credential::SecretHash;
use crate::domain::certificates::client_certificate::PeerCertificate;
use crate::domain::fleet::agent::Transport;
use crate::domain::secret_box::SecretBox;
use crate::domain::source::ClientSource;
use crate::domain::time::Clock;
use crate::hub::{Hub, KeyGrant};
use crate::store::Store;
use crate::store::writer::{AgentIdentity, AppendAudit, RecordHeartbeat};

/// Most sessions that open at once; others wait, connected but not registered.
const MAX_OPENING: usize = 1_024;
/// Connections of a key beyond two for each of its agents: of those that have not registered, and of
/// the others.
const SPARE_CONNECTIONS: usize = 8;
/// How long a session waits to open before the agent must reconnect later.
const OPENING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an agent whose WebSocket broke may take to come back over any transport. Until then its
/// session counts as open, as that of an agent on a silent network does.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an agent may take to register.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most waiting heartbeats. Further ones are dropped; the next ones follow soon.
const MAX_WAITING_HEARTBEATS: usize = 100_000;

/// Use cases of sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    opening: Arc<Semaphore>,
    connections: ConnectionLimiter,
    bytes: ByteLimiter,
    heartbeats: Heartbeats,
    cache: KeyCache,
    manifests: ManifestCache,
    desired_versions: DesiredVersions,
    secret_box: SecretBox,
    certificates: ClientCertificates,
    plan_refusals: PlanRefusals,
}

/// Finds the desired version of an agent that connects.
#[derive(Debug, Clone)]
pub(super) struct DesiredVersions {
    pub membership: GroupMembership,
    pub catalog: ReleaseCatalog,
}

/// A request for a session, with an authenticated key.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    pub grant: Arc<KeyGrant>,
    pub secret_hash: SecretHash,
    pub transport: Transport,
    /// Replaces `register` for agents that only send single requests.
    pub implied_registration: Option<Box<Registration>>,
    /// The key was in the URL, which only basic agents may do.
    pub is_key_in_query: bool,
    /// Where the connection comes from, if that is known.
    pub source: Option<ClientSource>,
    /// What the connection showed, over TLS that ends here.
    pub certificate: PeerCertificate,
}

/// What an agent claims about itself, and the challenge that a full one must have signed.
struct Claims {
    registration: Registration,
    challenge: Challenge,
}

/// What an agent claims about itself, after a full one has proven its key pair.
struct ProvenClaims {
    registration: Registration,
    identity: AgentIdentity,
    /// It must get a certificate before anything else.
    is_enrolment: bool,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The connection broke.
    Gone,
    /// The agent closed it.
    Left,
    /// The agent must reconnect later, because the server is shutting down.
    Drained,
    /// The server closed it.
    Closed(CloseCode),
}

impl SessionEnd {
    fn reason(self) -> &'static str {
        match self {
            Self::Gone | Self::Left => "connection_lost",
            Self::Drained => "drained",
            Self::Closed(code) => code.reason(),
        }
    }
}

impl Sessions {
    #[expect(clippy::too_many_arguments, reason = "a session touches most of the server")]
    pub(super) fn new(
        store: Store,
        hub: Arc<Hub>,
        clock: Clock,
        settings: Settings,
        heartbeats: Heartbeats,
        cache: KeyCache,
        manifests: ManifestCache,
        desired_versions: DesiredVersions,
        secret_box: SecretBox,
        certificates: ClientCertificates,
        freed: FreedMemory,
    ) -> Self {
        let opening = Arc::new(Semaphore::new(MAX_OPENING));
        Self {
            store,
            hub,
            clock,
            settings,
            opening,
            connections: ConnectionLimiter::default(),
            bytes: ByteLimiter::new(freed),
            heartbeats,
            cache,
            manifests,
            desired_versions,
            secret_box,
            certificates,
            plan_refusals: PlanRefusals::default(),
        }
    }

    /// Admits no more sessions, and waits until all sessions have ended.
    pub async fn wind_down(&self) {
        self.connections.close();
        self.connections.wait_empty().await;
    }

    /// Admits no more sessions.
    pub fn close(&self) {
        self.connections.close();
    }

    /// The share of a session of this key in the bytes that sessions may hold.
    pub fn bytes_of(&self, key: &KeyGrant) -> SessionBytes {
        self.bytes.session(key.tenant_id, key.key_id)
    }

    /// Runs a session to its end. The transport is closed when this returns.
    pub async fn run<T: AgentTransport>(
        self: &Arc<Self>,
        request: SessionRequest,
        mut transport: T,
    ) -> SessionEnd {
        // Each phase is boxed, so that an idle connection does not hold the memory of the largest
        // phase for hours.
        let end = match Box::pin(self.enter(&request, &mut transport)).await {
            Ok((claims, _permit)) => {
                match Box::pin(self.open(&request, claims, &mut transport)).await {
                    Ok(mut live) => {
                        let end = Box::pin(live.run(&mut transport)).await;
                        let end = Box::pin(live.wait_for_return(end)).await;
                        Box::pin(live.leave(end)).await;
                        end
                    }
                    Err(end) => end,
                }
            }
            Err(end) => end,
        };
        match end {
            SessionEnd::Gone | SessionEnd::Left => {}
            SessionEnd::Drained => transport.close(CloseCode::GoingAway).await,
            SessionEnd::Closed(code) => transport.close(code).await,
        }
        end
    }

    /// From the connection to a valid `register`. Until then, newer connections of the key can displace
    /// this one.
    async fn enter<T: AgentTransport>(
        &self,
        request: &SessionRequest,
        transport: &mut T,
    ) -> Result<(ProvenClaims, ConnectionPermit), SessionEnd> {
        let busy = SessionEnd::Closed(CloseCode::TryAgainLater);
        let KeyGrant { key_id, tenant_id, max_agents, .. } = *request.grant;
        let max = usize::try_from(max_agents).unwrap_or(1) * 2 + SPARE_CONNECTIONS;
        let arrived = self.connections.arrive(key_id, request.source, max);
        let mut unregistered = arrived.ok_or(busy)?;
        if unregistered.must_report {
            self.report_displacement(&request.grant, max);
        }
        let claims = tokio::select! {
            biased;
            () = unregistered.displaced() => return Err(busy),
            claims = self.start_handshake(request, transport) => claims?,
        };
        let claims = self.prove(request, claims)?;
        let public_key = claims.identity.public_key();
        let key_pair = public_key.map(|key| *key.as_bytes());
        if let Some(permit) = self.connections.admit(key_id, key_pair, max) {
            return Ok((claims, permit));
        }
        // A known agent is always admitted: no other host can prove its key pair.
        let public_key = public_key.ok_or(busy)?;
        let known = self.store.tenant(tenant_id).is_key_pair_of_agent(key_id, public_key).await;
        let is_known = known.map_err(|error| {
            tracing::warn!(%error, "failed to look up a key pair");
            busy
        })?;
        let permit =
            is_known.then(|| self.connections.admit(key_id, key_pair, usize::MAX)).flatten();
        Ok((claims, permit.ok_or(busy)?))
    }

    /// Reports that connections of a key end because too many of them do not register.
    fn report_displacement(&self, grant: &KeyGrant, limit: usize) {
        let key_id = grant.key_id;
        tracing::warn!(%key_id, limit, "too many connections of an agent key do not register; the oldest are closed");
        let action = AuditAction {
            tenant_id: grant.tenant_id,
            action: "agent_key.limit",
            subject: Subject { kind: "agent_key", id: key_id.0 },
            detail: &json!({"unregistered_connections": limit}),
            at: self.clock.now(),
        };
        let (store, entry) = (self.store.clone(), action.by_system());
        tokio::spawn(async move {
            if let Err(error) = store.writer().commit(AppendAudit(entry)).await {
                tracing::warn!(%key_id, %error, "failed to store the report about an agent key");
            }
        });
    }

    /// Sends `connected` and waits for `register`.
    async fn start_handshake<T: AgentTransport>(
        &self,
        request: &SessionRequest,
        transport: &mut T,
    ) -> Result<Claims, SessionEnd> {
        let Ok(challenge) = Challenge::random() else {
            tracing::error!("the system's source of random numbers failed");
            return Err(SessionEnd::Closed(CloseCode::TryAgainLater));
        };
        let connected = self.connected(&request.grant, Some(challenge));
        transport.feed(&connected).await?;
        transport.flush().await?;
        if let Some(registration) = request.implied_registration.clone() {
            return Ok(Claims { registration: *registration, challenge });
        }
        let registration = inbound::receive_registration(transport);
        match tokio::time::timeout(REGISTER_TIMEOUT, Box::pin(registration)).await {
            Ok(registration) => Ok(Claims { registration: registration?, challenge }),
            Err(_) => Err(SessionEnd::Closed(CloseCode::PolicyViolation)),
        }
    }

    fn connected(&self, grant: &KeyGrant, challenge: Option<Challenge>) -> ServerFrame {
        ServerFrame::Connected {
            message: "Agent connection established".into(),
            agent_key_id: grant.key_id.0,
            permissions: grant.permissions.clone(),
            timestamp: self.clock.now().to_string(),
            challenge,
        }
    }
}

impl From<TransportEnd> for SessionEnd {
    fn from(end: TransportEnd) -> Self {
        match end {
            TransportEnd::Gone => Self::Gone,
            TransportEnd::TooBig => Self::Closed(CloseCode::FrameTooBig),
            TransportEnd::Violation => Self::Closed(CloseCode::PolicyViolation),
        }
    }
}

/// Heartbeats that were received and not committed yet: sessions add them and maintenance stores them.
/// A heartbeat needs no durability, so it waits up to a second for others: a quiet fleet costs one
/// transaction a second. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<RecordHeartbeat>>>);

impl Heartbeats {
    /// Adds one.
    pub(in crate::services) fn add(&self, heartbeat: RecordHeartbeat) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING_HEARTBEATS {
            waiting.push(heartbeat);
        }
    }

    /// Takes all waiting heartbeats.
    pub(in crate::services) fn take(&self) -> Vec<RecordHeartbeat> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
