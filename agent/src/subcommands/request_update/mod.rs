//! `muster-agent request-update`: the host's owner asks the agent that runs here to become another
//! version, and waits for what comes of it.
//!
//! The server has no part in it but to hand out the release: no command is made. The agent takes the
//! request up as its own wish; fetching, judging and trying are the supervisor's, as for any update.

mod pending_request;

use std::path::PathBuf;
use std::time::Duration;

use muster_protocol::release::{UpdateOutcome, UpdateResult, Version};

use self::pending_request::PendingRequest;
use super::InspectError;
use super::status::{AgentState, HostReport};
use crate::config::Config;
use crate::identity::key::KeyRing;
use crate::link::{Connector, LinkError};
use crate::platform::{FileLock, LockError};
use crate::releases::client::{ReleaseClient, ReleaseClientError};
use crate::storage::StorageError;
use crate::storage::layout::StateDir;

/// For the agent to take the request up: it may be handshake its server, which takes a minute at most.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(75);
/// For a verdict: a download of 10 minutes, trials of 10 minutes forth and back, and what is between
/// them. The same as a group waits.
const RESULT_TIMEOUT: Duration = Duration::from_secs(40 * 60);
/// Without a supervisor for so long there will be no verdict; between two versions it may be away
/// for a moment.
const NO_SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the host does not run what was asked for. The texts go to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestUpdateError {
    #[error(transparent)]
    Host(#[from] InspectError),
    #[error("no agent runs on {}: start it, then ask for the update", .0.display())]
    NotRunning(PathBuf),
    #[error("the agent's files belong to the user {owner}: run this as that user")]
    OtherOwner { owner: String },
    #[error(
        "somebody else has asked for an update of this host and waits for its verdict: ask again when that is there"
    )]
    AlreadyAsked,
    #[error(transparent)]
    ReleaseClient(#[from] ReleaseClientError),
    #[error("the way to the server can't be prepared")]
    Connector(#[source] LinkError),
    #[error("the request can't be left with the agent")]
    Storage(#[from] StorageError),
    #[error(
        "the agent did not take the request up within {} s, and nothing was changed: look with `muster-agent status`; one that is older than this program has to be restarted first",
        ACCEPT_TIMEOUT.as_secs()
    )]
    NotAccepted,
    #[error("not updated ({code}): {message}")]
    Refused { code: String, message: String },
    #[error("the request was lost between agent and supervisor: look at the log, then ask again")]
    Lost,
    #[error(
        "the service was stopped before there was a verdict: start it, and look with `muster-agent status` which version runs"
    )]
    Stopped,
    #[error(
        "no verdict within {} minutes: look at the log of the supervisor",
        RESULT_TIMEOUT.as_secs() / 60
    )]
    NoResult,
    /// The verdict, unless it is a good one.
    #[error("{outcome} ({code}): {message}; {version} runs")]
    NotInstalled { outcome: &'static str, code: String, message: String, version: String },
}

/// Asks for a version, or for what the server has for this host, and waits. Gives a sentence on
/// what runs now; `report` is given one on what is waited for.
///
/// # Errors
/// [`RequestUpdateError`] with a sentence that says what to do. Bounded by 40 minutes and what the server
/// takes to answer.
pub async fn request_update(
    config: &Config,
    version: Option<Version>,
    announce: impl FnOnce(&str),
) -> Result<String, RequestUpdateError> {
    let path = &config.state_dir;
    let not_running = || RequestUpdateError::NotRunning(path.clone());
    if let Some(owner) = super::other_owner(path) {
        return Err(RequestUpdateError::OtherOwner { owner });
    }
    let state = StateDir::existing(path).ok_or_else(not_running)?;
    // Before the look at the agent, which may be one on trial that says nothing.
    let _lock = FileLock::take(&state.owner_update_lock()).map_err(|error| match error {
        LockError::Held => RequestUpdateError::AlreadyAsked,
        LockError::Io(source) => {
            StorageError::io("lock", &state.owner_update_lock())(source).into()
        }
    })?;
    let report = HostReport::read(state.path())?;
    let running = report.agent.filter(|_| report.state != AgentState::Stopped);
    let running = running.ok_or_else(not_running)?;
    let connector =
        Connector::new(config.endpoint.clone(), config.proxy.clone(), &config.authorities);
    let connector = connector.map_err(RequestUpdateError::Connector)?;
    let client = ReleaseClient::new(&connector)?;
    let wanted = match version {
        Some(version) => version,
        None => {
            let keys = KeyRing::load(config.api_key.clone(), &state)?;
            client.desired_release(keys.current(), running.agent_id).await?
        }
    };
    if wanted.to_string() == running.version {
        return Ok(format!("{wanted} runs here already"));
    }
    // A release that is not there is no reason to stop an agent.
    client.check(&wanted).await?;
    announce(&format!(
        "{} runs here and is asked to become {wanted}; the verdict takes up to {} minutes, and comes also if you don't wait for it",
        running.version,
        RESULT_TIMEOUT.as_secs() / 60
    ));
    let request = PendingRequest::write(&state, wanted)?;
    request.wait_accepted().await?;
    describe(request.wait_result().await?)
}

fn describe(result: UpdateResult) -> Result<String, RequestUpdateError> {
    let UpdateResult { outcome, from_version, to_version, .. } = &result;
    match outcome {
        UpdateOutcome::Installed => Ok(format!("updated from {from_version} to {to_version}")),
        UpdateOutcome::Unchanged => Ok(format!("{to_version} runs here already")),
        UpdateOutcome::RolledBack | UpdateOutcome::Refused | UpdateOutcome::Failed => {
            Err(RequestUpdateError::NotInstalled {
                outcome: outcome.as_str(),
                code: result.code.unwrap_or_default(),
                message: result.message,
                version: result.from_version,
            })
        }
    }
}
