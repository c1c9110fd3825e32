//! The agent's life: links made and lost, sessions run over them, until something ends it.

use std::time::Duration;

use futures_util::FutureExt as _;
use muster_protocol::{CloseCode, ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::agent::{Agent, AgentError, HostLimits};
use crate::clock::between;
use crate::config::Config;
use crate::exec;
use crate::fault;
use crate::host::board::Board;
use crate::instance::{Instance, InstanceError};
use crate::key::KeyRing;
use crate::layout::StateDir;
use crate::link::{Authorities, Exchange, Link, LinkError, Obstacle, Way, WebSocket};
use crate::reconnect::{Cause, Next, Reconnect, Standing, Transport};
use crate::session::{self, Ended, Ending, Upgrade, looking_after};
use crate::storage::StorageError;

/// The longest wait between two looks for a WebSocket while on HTTP.
const MAX_WEBSOCKET_RETRY: Duration = Duration::from_secs(600);

/// Why the agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error("use the state directory")]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("listen for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs the agent until it is told to end; gives what its process is to exit with.
///
/// # Errors
/// [`RunError`] if it can't begin; the state directory is then unusable or taken.
pub async fn run(config: Config) -> Result<ExitCode, RunError> {
    fault::warn();
    let state = StateDir::create(&config.state_dir)?;
    let _instance = Instance::take(&state).await?;
    let board = Board::begin(&state, config.endpoint.websocket_url());
    let keys = KeyRing::load(config.api_key.clone(), &state)?;
    let limits = HostLimits {
        max_executions: config.max_executions,
        output: config.output_bounds(),
        follows_wish: !config.skip_update,
    };
    let mut agent = Agent::open(state, keys, limits, exec::shim_program())?;
    let board = agent.board.insert(board);
    board.identified(agent.identity.agent_id);
    let mut stop = stop_signal()?;
    tracing::info!(
        version = agent.about.version,
        server = %config.endpoint.websocket_url(),
        proxy = config.proxy.as_ref().map(tracing::field::display),
        state_dir = %agent.state.path().display(),
        "muster-agent begins"
    );
    Ok(live(&config, &mut agent, &mut stop).await)
}

async fn live(config: &Config, agent: &mut Agent, stop: &mut watch::Receiver<bool>) -> ExitCode {
    let mut reconnect = Reconnect::new(config.fallback);
    let mut dialer = Dialer::new(config);
    let mut ready: Option<Box<dyn Link>> = None;
    let owner = agent.custody.owner();
    loop {
        // Without a session nobody is told; the next one begins with an inventory.
        let mut untold = Vec::new();
        let link = match ready.take() {
            Some(link) => Ok(link),
            None => {
                let dialing = dialer.dial(reconnect.transport(), agent.keys.clone());
                let dialing = looking_after(&mut agent.custody, dialing, &mut untold).boxed();
                tokio::select! {
                    link = dialing => link,
                    () = owner.notified() => match agent.desk.take_request() {
                        Some(code) => return code,
                        None => continue,
                    },
                    _ = stop.wait_for(|stop| *stop) => return ExitCode::Stop,
                }
            }
        };
        let ended = match link {
            Ok(link) => {
                let keys = agent.keys.clone();
                let upgrade = reconnect.wants_upgrade().then(|| dialer.upgrade(keys)).flatten();
                session::run(link, agent, stop, upgrade).boxed().await
            }
            Err(error) => Ended { ending: Ending::Broken(error), was_registered: false },
        };
        if let (Some(board), Some(sentence)) = (&mut agent.board, ended.ending.sentence()) {
            board.disconnected(sentence);
        }
        let cause = match ended.ending {
            Ending::Stopped => {
                tracing::info!("stopped; running jobs go on");
                return ExitCode::Stop;
            }
            Ending::Exit(code) => return code,
            // Never without having been asked for.
            Ending::Deregistered => return ExitCode::Stop,
            Ending::Upgraded(link) => {
                tracing::info!("a WebSocket can be had again");
                reconnect.upgraded();
                ready = Some(link);
                continue;
            }
            Ending::Drained(delay) => Cause::Drained(delay),
            Ending::Closed { meaning: Some(meaning), .. } => {
                tracing::warn!(reason = meaning.reason(), "the server closed the session");
                Cause::Closed(meaning)
            }
            Ending::Closed { code, reason, meaning: None } => {
                tracing::warn!(code, %reason, "the server closed the session");
                Cause::Broken
            }
            Ending::Broken(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no link to the server");
                if matches!(error, LinkError::Blocked(Obstacle::UnknownIssuer { .. })) {
                    dialer.trust_anew();
                }
                error.close_code().map_or(Cause::Broken, Cause::Closed)
            }
            Ending::Failed(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the session can't be kept: check the state directory");
                Cause::Broken
            }
        };
        if cause == Cause::Closed(CloseCode::KeyUnknown) {
            agent.note_unknown_key();
        }
        let standing =
            Standing { is_enrolled: agent.is_enrolled(), disowned_for: agent.disowned_for() };
        match reconnect.after(cause, ended.was_registered, standing) {
            Next::Exit { code, reason } => {
                tracing::error!(exit_code = code.code(), "{reason}");
                return code;
            }
            Next::After(delay) => {
                tracing::info!(delay_ms = delay.as_millis() as u64, "trying again");
                let pause = tokio::time::sleep(delay);
                tokio::select! {
                    () = looking_after(&mut agent.custody, pause, &mut untold) => {}
                    () = owner.notified() => {
                        if let Some(code) = agent.desk.take_request() {
                            return code;
                        }
                    }
                    _ = stop.wait_for(|stop| *stop) => return ExitCode::Stop,
                }
            }
        }
    }
}

/// Opens links.
pub(crate) struct Dialer<'a> {
    config: &'a Config,
    authorities: Authorities,
    /// Made at the first need and kept: reading the host's certificates takes time and memory.
    way: Option<Way>,
}

impl<'a> Dialer<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config, authorities: config.authorities.clone(), way: None }
    }

    pub(crate) async fn dial(
        &mut self,
        transport: Transport,
        keys: KeyRing,
    ) -> Result<Box<dyn Link>, LinkError> {
        let way = self.way()?;
        let key = keys.current();
        Ok(match transport {
            Transport::WebSocket => Box::new(WebSocket::open(&way, key).await?),
            Transport::Http => Box::new(Exchange::open(&way, key, self.config.poll_wait)?),
        })
    }

    /// Reads again whom to trust: authorities are renewed too, and an agent that can't be reached
    /// can't be told.
    fn trust_anew(&mut self) {
        self.authorities = self.authorities.read_again();
        self.way = None;
    }

    fn way(&mut self) -> Result<Way, LinkError> {
        if let Some(way) = &self.way {
            return Ok(way.clone());
        }
        let Config { endpoint, proxy, .. } = self.config;
        let way = Way::new(endpoint.clone(), proxy.clone(), &self.authorities)?;
        self.way = Some(way.clone());
        Ok(way)
    }

    /// Looks for a WebSocket now and then, ever more rarely, until there is one. `None` before the
    /// first link.
    fn upgrade(&self, keys: KeyRing) -> Option<Upgrade<'static>> {
        let way = self.way.clone()?;
        let mut longest = self.config.websocket_retry;
        let looking = async move {
            loop {
                tokio::time::sleep(between(longest / 2, longest)).await;
                longest = (longest * 2).min(MAX_WEBSOCKET_RETRY);
                match WebSocket::probe(&way, keys.current()).await {
                    Ok(link) => return Box::new(link) as Box<dyn Link>,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(error, "still no WebSocket");
                    }
                }
            }
        };
        Some(looking.boxed())
    }
}

fn stop_signal() -> Result<watch::Receiver<bool>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sender.send(true);
        // Kept: a receiver without a sender would take its end for a stop.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}
