//! `muster-agent request-update`: asks the running agent to install another version, and waits for
//! the result.
//!
//! The server only provides the release: there is no command. The agent turns the request into an
//! update request of its own; the supervisor downloads, verifies and tries the release as in any
//! update.

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

/// Time for the agent to accept the request: it may be in a handshake, which takes at most a
/// minute.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(75);
/// Time for the result: a download of 10 minutes, two trials of 10 minutes, and the time in
/// between. Groups wait as long.
const RESULT_TIMEOUT: Duration = Duration::from_secs(40 * 60);
/// Without a supervisor for this long there will be no result; between two versions it may be gone
/// for a moment.
const NO_SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the host does not run the requested version. The messages are shown to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestUpdateError {
    #[error(transparent)]
    Host(#[from] InspectError),
    #[error("no agent runs on {}; start it, then request the update", .0.display())]
    NotRunning(PathBuf),
    #[error("the agent's files belong to the user {owner}; run this as that user")]
    OtherOwner { owner: String },
    #[error(
        "another update request for this host is waiting for its result; try again when that has ended"
    )]
    AlreadyAsked,
    #[error(transparent)]
    ReleaseClient(#[from] ReleaseClientError),
    #[error("failed to prepare the connection to the server")]
    Connector(#[source] LinkError),
    #[error("failed to write the request for the agent")]
    Storage(#[from] StorageError),
    #[error(
        "the agent did not accept the request within {} s, and nothing was changed; check `muster-agent status`, and restart the agent if it is older than this program",
        ACCEPT_TIMEOUT.as_secs()
    )]
    NotAccepted,
    #[error("not updated ({code}): {message}")]
    Refused { code: String, message: String },
    #[error(
        "the request was lost between the agent and its supervisor; check the log, then try again"
    )]
    Lost,
    #[error(
        "the service was stopped before there was a result; start it, then check the running version with `muster-agent status`"
    )]
    Stopped,
    #[error(
        "no result within {} minutes; check the supervisor's log",
        RESULT_TIMEOUT.as_secs() / 60
    )]
    NoResult,
    /// A result other than success.
    #[error("{outcome} ({code}): {message}; {version} runs")]
    NotInstalled { outcome: &'static str, code: String, message: String, version: String },
}

/// Requests a version, or the one that the server desires for this host, and waits. Returns a
/// sentence about the running version; `announce` gets a sentence about what is being waited for.
///
/// # Errors
/// [`RequestUpdateError`] with a message that says what to do. Takes at most 40 minutes and the
/// time of the server's answers.
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
    // Taken before the status is read, because an agent on trial may not report its state.
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
    let mut connector = connector.map_err(RequestUpdateError::Connector)?;
    connector.show_stored(&state);
    let client = ReleaseClient::new(&connector)?;
    let wanted = match version {
        Some(version) => version,
        None => {
            let keys = KeyRing::load(config.api_key.clone(), &state)?;
            client.desired_release(keys.current(), running.agent_id).await?
        }
    };
    if wanted.to_string() == running.version {
        return Ok(format!("{wanted} is already running"));
    }
    // An agent must not be stopped for a release that does not exist.
    client.check(&wanted).await?;
    announce(&format!(
        "updating from {} to {wanted}; this takes up to {} minutes and continues if you stop waiting",
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
        UpdateOutcome::Unchanged => Ok(format!("{to_version} is already running")),
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
