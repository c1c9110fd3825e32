//! Deregisters this host: one last session, after which the server has deleted the agent and the
//! host has deleted its identity.

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

/// The result of a deregistration.
#[derive(Debug)]
pub enum DeregisterOutcome {
    /// No server has ever enrolled this host.
    NeverEnrolled,
    Deregistered {
        agent_id: Uuid,
        /// Commands whose result was not reported in time, or that were still running: they are
        /// `lost`.
        unreported: usize,
    },
}

/// Why the host is not deregistered, or not completely. The messages are shown to the person who
/// asked.
#[derive(Debug, thiserror::Error)]
pub enum DeregisterError {
    #[error("the agent is still running on {}; stop it, then deregister it", .0.display())]
    Running(PathBuf),
    #[error(transparent)]
    InstanceLock(InstanceLockError),
    #[error("failed to use the state directory; run this as root or as the agent's own user")]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(
        "not deregistered: {reason}; delete the agent on the server: muster agents delete {agent_id}"
    )]
    Refused { reason: String, agent_id: Uuid },
    #[error("the host may be deregistered: {reason}; run this again, which does no harm if it is")]
    Unsure { reason: String },
    #[error("the agent's files belong to the user {owner}; run this as that user")]
    OtherOwner { owner: String },
    #[error("deregistered, but failed to delete the identity on this host; remove {}", path.display())]
    Remembered {
        path: PathBuf,
        #[source]
        source: AgentError,
    },
}

/// The agent id in this state directory. Creates nothing.
///
/// # Errors
/// [`DeregisterError::Storage`] if it can't be read.
pub fn enrolled(state_dir: &Path) -> Result<Option<Uuid>, DeregisterError> {
    let identity: Option<Identity> = storage::read_sealed(&StateDir::at(state_dir).identity())?;
    Ok(identity.and_then(|identity| identity.agent_id))
}

/// Deregisters the host. Executions that still run are ended.
///
/// # Errors
/// [`DeregisterError`] with a message that says what to do.
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
    // Nothing more may start.
    let limits = HostLimits {
        max_executions: 0,
        output: config.output_limits(),
        applies_desired_version: false,
    };
    let mut agent = Agent::open(state, keys, limits, executions::shim_program())?;
    // Not enrolled, if the directory was copied from another machine.
    if !agent.is_enrolled() {
        return Ok(DeregisterOutcome::NeverEnrolled);
    }
    let ended = Box::pin(last_session(config, &mut agent)).await;
    let reason = || ended.end.description().unwrap_or_default();
    match &ended.end {
        SessionEnd::Deregistered
        | SessionEnd::Closed { meaning: Some(CloseCode::Deregistered), .. } => {}
        // The server may have deleted the agent before the link broke.
        SessionEnd::Broken(_) if ended.was_registered => {
            return Err(DeregisterError::Unsure { reason: reason() });
        }
        _ => return Err(DeregisterError::Refused { reason: reason(), agent_id }),
    }
    // The id may have changed if the server did not know the former one.
    let agent_id = agent.identity.agent_id.unwrap_or_default();
    let unreported = agent.executions.ledger().entries().count();
    forget(&mut agent)
        .map_err(|source| DeregisterError::Remembered { path: agent.state.identity(), source })?;
    Ok(DeregisterOutcome::Deregistered { agent_id, unreported })
}

/// A session over a WebSocket, otherwise over HTTP.
async fn last_session(config: &Config, agent: &mut Agent) -> SessionOutcome {
    let (first, second) = match config.fallback {
        Fallback::Allowed => (Transport::WebSocket, Some(Transport::Http)),
        Fallback::Never => (Transport::WebSocket, None),
        Fallback::Only => (Transport::Http, None),
    };
    let mut dialer = Dialer::new(config);
    let ended = leave_over(first, &mut dialer, agent).await;
    // If the server refused, it would refuse over the other transport too.
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
    let dialing = dialer.dial(transport, agent.keys.clone(), agent.certificate.clone());
    match Box::pin(poll_with(&mut agent.executions, dialing, &mut unreported)).await {
        Ok(link) => {
            // The session has no stop signal: the user may kill the process and run it again.
            let (_stopper, mut stop) = watch::channel(false);
            Box::pin(sessions::run_deregistration(link, agent, &mut stop)).await
        }
        Err(error) => SessionOutcome { end: SessionEnd::Broken(error), was_registered: false },
    }
}

/// Ends everything that still runs and removes the ledger and the identity: a later start enrols
/// the host again.
fn forget(agent: &mut Agent) -> Result<(), AgentError> {
    agent.executions.reset()?;
    let identity =
        Identity { agent_id: None, ticket: None, key_rejected: None, ..agent.identity.clone() };
    identity.save(&agent.state)?;
    agent.identity = identity;
    // It describes an agent that no longer exists.
    let _ = fs::remove_file(agent.state.status());
    Ok(())
}

impl DeregisterOutcome {
    /// Text for people.
    pub fn text(&self) -> String {
        match self {
            Self::NeverEnrolled => "nothing to deregister: this host is not enrolled\n".to_owned(),
            Self::Deregistered { agent_id, unreported: 0 } => format!("deregistered {agent_id}\n"),
            Self::Deregistered { agent_id, unreported } => format!(
                "deregistered {agent_id}; results not reported to the server: {unreported}\n"
            ),
        }
    }
}
