//! Taking this host out of the fleet: one last session, after which the server knows no such agent
//! and the host remembers no server's.

use std::fs;
use std::path::{Path, PathBuf};

use muster_protocol::CloseCode;
use tokio::sync::watch;
use uuid::Uuid;

use crate::agent::{Agent, AgentError, HostLimits};
use crate::config::{Config, Fallback};
use crate::executions;
use crate::identity::Identity;
use crate::identity::instance_lock::{InstanceLock, InstanceLockError};
use crate::identity::key::KeyRing;
use crate::sessions::reconnect::Transport;
use crate::sessions::{self, SessionEnd, SessionOutcome, poll_with};
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};
use crate::subcommands::run::dialer::Dialer;

/// What came of it.
#[derive(Debug)]
pub enum DeregisterOutcome {
    /// No server has ever enrolled this host.
    NeverEnrolled,
    Deregistered {
        agent_id: Uuid,
        /// Commands whose ends the server was not told in time, or that still ran: they are `lost`.
        unreported: usize,
    },
}

/// Why the host is still in the fleet, or half out of it. The texts go to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum DeregisterError {
    #[error("the agent still runs on {}: stop it, then deregister it", .0.display())]
    Running(PathBuf),
    #[error(transparent)]
    InstanceLock(InstanceLockError),
    #[error("the state directory can't be used: run this as root, or as the agent's own user")]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(
        "not deregistered: {reason}; delete the agent on the server: muster agents delete {agent_id}"
    )]
    Refused { reason: String, agent_id: Uuid },
    #[error(
        "perhaps deregistered: {reason}; run this again, which does no harm if it is done already"
    )]
    Unsure { reason: String },
    #[error("the agent's files belong to the user {owner}: run this as that user")]
    OtherOwner { owner: String },
    #[error("deregistered, but this host still remembers it: remove {}", path.display())]
    Remembered {
        path: PathBuf,
        #[source]
        source: AgentError,
    },
}

/// The id that a server has given to the agent of this state directory. Makes nothing.
///
/// # Errors
/// [`DeregisterError::Storage`] if it can't be read.
pub fn enrolled(state_dir: &Path) -> Result<Option<Uuid>, DeregisterError> {
    let identity: Option<Identity> = storage::read_sealed(&StateDir::at(state_dir).identity())?;
    Ok(identity.and_then(|identity| identity.agent_id))
}

/// Takes the host out of the fleet. What still runs here is ended then.
///
/// # Errors
/// [`DeregisterError`] with a sentence that says what to do.
pub async fn deregister(config: &Config) -> Result<DeregisterOutcome, DeregisterError> {
    let Some(agent_id) = enrolled(&config.state_dir)? else {
        return Ok(DeregisterOutcome::NeverEnrolled);
    };
    if let Some(owner) = super::other_owner(&config.state_dir) {
        return Err(DeregisterError::OtherOwner { owner });
    }
    let state = StateDir::create(&config.state_dir)?;
    let _instance = InstanceLock::take(&state).await.map_err(|error| match error {
        InstanceLockError::Taken { .. } => DeregisterError::Running(state.path().to_owned()),
        error => DeregisterError::InstanceLock(error),
    })?;
    let keys = KeyRing::load(config.api_key.clone(), &state)?;
    // Nothing is started any more.
    let limits = HostLimits {
        max_executions: 0,
        output: config.output_limits(),
        applies_desired_version: false,
    };
    let mut agent = Agent::open(state, keys, limits, executions::shim_program())?;
    // It is none if the directory was another machine's.
    if !agent.is_enrolled() {
        return Ok(DeregisterOutcome::NeverEnrolled);
    }
    let ended = Box::pin(last_session(config, &mut agent)).await;
    let reason = || ended.end.description().unwrap_or_default();
    match &ended.end {
        SessionEnd::Deregistered
        | SessionEnd::Closed { meaning: Some(CloseCode::Deregistered), .. } => {}
        // It may have been asked for, and done, before the link broke.
        SessionEnd::Broken(_) if ended.was_registered => {
            return Err(DeregisterError::Unsure { reason: reason() });
        }
        _ => return Err(DeregisterError::Refused { reason: reason(), agent_id }),
    }
    // Not the one it began with, if the server had forgotten that.
    let agent_id = agent.identity.agent_id.unwrap_or_default();
    let unreported = agent.executions.ledger().entries().count();
    forget(&mut agent)
        .map_err(|source| DeregisterError::Remembered { path: agent.state.identity(), source })?;
    Ok(DeregisterOutcome::Deregistered { agent_id, unreported })
}

/// A session as usual: over a WebSocket, else over HTTP.
async fn last_session(config: &Config, agent: &mut Agent) -> SessionOutcome {
    let (first, second) = match config.fallback {
        Fallback::Allowed => (Transport::WebSocket, Some(Transport::Http)),
        Fallback::Never => (Transport::WebSocket, None),
        Fallback::Only => (Transport::Http, None),
    };
    let mut dialer = Dialer::new(config);
    let ended = leave_over(first, &mut dialer, agent).await;
    // What the server has said itself, it would say again.
    let is_unreached =
        matches!(&ended.end, SessionEnd::Broken(error) if error.close_code().is_none());
    match second {
        Some(second) if is_unreached && !ended.was_registered => {
            leave_over(second, &mut dialer, agent).await
        }
        _ => ended,
    }
}

async fn leave_over(
    transport: Transport,
    dialer: &mut Dialer<'_>,
    agent: &mut Agent,
) -> SessionOutcome {
    let mut unreported = Vec::new();
    let dialing = dialer.dial(transport, agent.keys.clone());
    match Box::pin(poll_with(&mut agent.executions, dialing, &mut unreported)).await {
        Ok(link) => {
            // Nobody asks it to stop: whoever waits for it may kill it, and begin again.
            let (_stopper, mut stop) = watch::channel(false);
            Box::pin(sessions::run_deregistration(link, agent, &mut stop)).await
        }
        Err(error) => SessionOutcome { end: SessionEnd::Broken(error), was_registered: false },
    }
}

/// Ends what still runs, and puts ledger and identity away: a later start enrols anew.
fn forget(agent: &mut Agent) -> Result<(), AgentError> {
    agent.executions.reset()?;
    let identity = Identity { agent_id: None, key_rejected: None, ..agent.identity.clone() };
    identity.save(&agent.state)?;
    agent.identity = identity;
    // It tells of an agent that is no more.
    let _ = fs::remove_file(agent.state.status());
    Ok(())
}

impl DeregisterOutcome {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::NeverEnrolled => "nothing to deregister: this host is not enrolled\n".to_owned(),
            Self::Deregistered { agent_id, unreported: 0 } => format!("deregistered {agent_id}\n"),
            Self::Deregistered { agent_id, unreported } => format!(
                "deregistered {agent_id}; the server was not told how {unreported} of its commands ended\n"
            ),
        }
    }
}
