//! Sessions of agents: one implementation, whatever carries the frames.
//!
//! An edge hands over an authenticated key and a [`AgentTransport`]; [`Sessions::run`] does the
//! rest, from `connected` to the end. Everything an agent sends is hostile input: sizes are bounded
//! by the transport, rates and counts here.

mod commit_ack;
mod connection_limiter;
mod deregistration;
pub(super) mod heartbeats;
mod inbound;
mod live;
mod opening;
mod output_tracker;
mod transport;
mod update_results;

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::CloseCode;
use muster_protocol::frame::{Registration, ServerFrame};
use tokio::sync::Semaphore;

use self::connection_limiter::ConnectionLimiter;

use self::heartbeats::Heartbeats;
pub use self::transport::{AgentTransport, Inbound, TransportEnd};
use super::Settings;
use super::access::key_cache::KeyCache;
use super::commands::preflight::ManifestCache;
use super::fleet::group_membership::GroupMembership;
use super::releases::catalog::ReleaseCatalog;
use crate::domain::access::credential::SecretHash;
use crate::domain::fleet::agent::Transport;
use crate::domain::time::Clock;
use crate::hub::{Hub, KeyGrant};
use crate::store::Store;

/// Sessions that may be opening at once; the rest wait their turn, connected but not registered.
const OPENING: usize = 1_024;
/// Connections that a key may have beyond two for each of its agents.
const SPARE_CONNECTIONS: usize = 8;
/// How long one waits for its turn before it is sent away to come back later.
const ADMISSION_WAIT: Duration = Duration::from_secs(20);
/// How long an agent may take to register.
const REGISTER_WAIT: Duration = Duration::from_secs(30);

/// Use cases of sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    admission: Arc<Semaphore>,
    census: ConnectionLimiter,
    heartbeats: Heartbeats,
    cache: KeyCache,
    lists: ManifestCache,
    wishes: Wishes,
}

/// What is wanted of the versions of agents.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    pub book: GroupMembership,
    pub catalog: ReleaseCatalog,
}

/// How a session came about.
#[derive(Debug, Clone)]
pub struct Origin {
    pub grant: Arc<KeyGrant>,
    pub secret_hash: SecretHash,
    pub transport: Transport,
    /// Of an agent whose requests stand for a session: what a `register` would have said.
    pub implied: Option<Box<Registration>>,
    /// The key stood in the URL, which is for basic agents only.
    pub is_key_in_query: bool,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The agent is gone.
    Gone,
    /// It was told to come back later, because the server is going away.
    Drained,
    /// The server ended it.
    Closed(CloseCode),
}

impl SessionEnd {
    fn reason(self) -> &'static str {
        match self {
            Self::Gone => "connection_lost",
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
        lists: ManifestCache,
        wishes: Wishes,
    ) -> Self {
        let admission = Arc::new(Semaphore::new(OPENING));
        Self {
            store,
            hub,
            clock,
            settings,
            admission,
            census: ConnectionLimiter::default(),
            heartbeats,
            cache,
            lists,
            wishes,
        }
    }

    /// Lets no more sessions in, and waits until those that are here have ended.
    pub async fn wind_down(&self) {
        self.census.close();
        self.census.empty().await;
    }

    /// Lets no more sessions in.
    pub fn close(&self) {
        self.census.close();
    }

    /// Runs a session to its end. The transport is closed when this returns.
    pub async fn run<T: AgentTransport>(
        self: &Arc<Self>,
        origin: Origin,
        mut transport: T,
    ) -> SessionEnd {
        let most = usize::try_from(origin.grant.max_agents).unwrap_or(1) * 2 + SPARE_CONNECTIONS;
        let Some(_counted) = self.census.enter(origin.grant.key_id, most) else {
            transport.close(CloseCode::TryAgainLater).await;
            return SessionEnd::Closed(CloseCode::TryAgainLater);
        };
        // Each phase in a box of its own: what an idle connection holds for hours should not have
        // the size of its busiest moment.
        let end = match Box::pin(self.greet(&origin, &mut transport)).await {
            Ok(registration) => {
                match Box::pin(self.open(&origin, registration, &mut transport)).await {
                    Ok(mut live) => {
                        let end = Box::pin(live.run(&mut transport)).await;
                        Box::pin(live.leave(end)).await;
                        end
                    }
                    Err(end) => end,
                }
            }
            Err(end) => end,
        };
        match end {
            SessionEnd::Gone => {}
            SessionEnd::Drained => transport.close(CloseCode::GoingAway).await,
            SessionEnd::Closed(code) => transport.close(code).await,
        }
        end
    }

    /// Says `connected` and waits for `register`.
    async fn greet<T: AgentTransport>(
        &self,
        origin: &Origin,
        transport: &mut T,
    ) -> Result<Registration, SessionEnd> {
        let connected = self.connected(&origin.grant);
        transport.feed(&connected).await?;
        transport.flush().await?;
        if let Some(registration) = origin.implied.clone() {
            return Ok(*registration);
        }
        let waiting = inbound::registration(transport);
        match tokio::time::timeout(REGISTER_WAIT, Box::pin(waiting)).await {
            Ok(registration) => registration,
            Err(_) => Err(SessionEnd::Closed(CloseCode::PolicyViolation)),
        }
    }

    fn connected(&self, grant: &KeyGrant) -> ServerFrame {
        ServerFrame::Connected {
            message: "Agent connection established".into(),
            agent_key_id: grant.key_id.0,
            permissions: grant.permissions.clone(),
            timestamp: self.clock.now().to_string(),
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
