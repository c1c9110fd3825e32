//! `muster-agent request-update`: the host's owner asks the agent that runs here to become another
//! version, and waits for what comes of it.
//!
//! The server has no part in it but to hand out the release: no command is made. The agent takes the
//! request up as its own wish; fetching, judging and trying are the supervisor's, as for any update.

mod request;

use std::path::PathBuf;
use std::time::Duration;

use muster_protocol::release::{UpdateOutcome, UpdateResult, Version};

use self::request::Request;
use super::HostError;
use super::status::{Report, State};
use crate::config::Config;
use crate::key::KeyRing;
use crate::layout::StateDir;
use crate::link::{LinkError, Way};
use crate::platform::{FileLock, LockError};
use crate::release::offer::{Offer, OfferError};
use crate::storage::StorageError;

/// For the agent to take the request up: it may be greeting its server, which takes a minute at most.
const TAKE_UP_TIME: Duration = Duration::from_secs(75);
/// For a verdict: a download of 10 minutes, trials of 10 minutes forth and back, and what is between
/// them. The same as a group waits.
const VERDICT_TIME: Duration = Duration::from_secs(40 * 60);
/// Without a supervisor for so long there will be no verdict; between two versions it may be away
/// for a moment.
const GONE_TIME: Duration = Duration::from_secs(30);

/// Why the host does not run what was asked for. The texts go to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("no agent runs on {}: start it, then ask for the update", .0.display())]
    NotRunning(PathBuf),
    #[error("the agent's files belong to the user {owner}: run this as that user")]
    AnothersFiles { owner: String },
    #[error(
        "somebody else has asked for an update of this host and waits for its verdict: ask again when that is there"
    )]
    AlreadyAsked,
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error("the way to the server can't be prepared")]
    Way(#[source] LinkError),
    #[error("the request can't be left with the agent")]
    Storage(#[from] StorageError),
    #[error(
        "the agent did not take the request up within {} s, and nothing was changed: look with `muster-agent status`; one that is older than this program has to be restarted first",
        TAKE_UP_TIME.as_secs()
    )]
    NotTakenUp,
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
        VERDICT_TIME.as_secs() / 60
    )]
    NoVerdict,
    /// The verdict, unless it is a good one.
    #[error("{outcome} ({code}): {message}; {version} runs")]
    NotInstalled { outcome: &'static str, code: String, message: String, version: String },
}

/// Asks for a version, or for what the server has for this host, and waits. Gives a sentence on
/// what runs now; `tell` is given one on what is waited for.
///
/// # Errors
/// [`UpdateError`] with a sentence that says what to do. Bounded by 40 minutes and what the server
/// takes to answer.
pub async fn update(
    config: &Config,
    version: Option<Version>,
    tell: impl FnOnce(&str),
) -> Result<String, UpdateError> {
    let path = &config.state_dir;
    let not_running = || UpdateError::NotRunning(path.clone());
    if let Some(owner) = super::other_owner(path) {
        return Err(UpdateError::AnothersFiles { owner });
    }
    let state = StateDir::existing(path).ok_or_else(not_running)?;
    // Before the look at the agent, which may be one on trial that says nothing.
    let _turn = FileLock::take(&state.owner_update_lock()).map_err(|error| match error {
        LockError::Held => UpdateError::AlreadyAsked,
        LockError::Io(source) => {
            StorageError::io("lock", &state.owner_update_lock())(source).into()
        }
    })?;
    let report = Report::of(state.path())?;
    let running = report.agent.filter(|_| report.state != State::Stopped);
    let running = running.ok_or_else(not_running)?;
    let way = Way::new(config.endpoint.clone(), config.proxy.clone(), &config.authorities);
    let way = way.map_err(UpdateError::Way)?;
    let offer = Offer::new(&way)?;
    let wanted = match version {
        Some(version) => version,
        None => {
            let keys = KeyRing::load(config.api_key.clone(), &state)?;
            offer.wanted(keys.current(), running.agent_id).await?
        }
    };
    if wanted.to_string() == running.version {
        return Ok(format!("{wanted} runs here already"));
    }
    // A release that is not there is no reason to stop an agent.
    offer.check(&wanted).await?;
    tell(&format!(
        "{} runs here and is asked to become {wanted}; the verdict takes up to {} minutes, and comes also if you don't wait for it",
        running.version,
        VERDICT_TIME.as_secs() / 60
    ));
    let request = Request::leave(&state, wanted)?;
    request.be_taken_up().await?;
    sentence(request.verdict().await?)
}

fn sentence(verdict: UpdateResult) -> Result<String, UpdateError> {
    let UpdateResult { outcome, from_version, to_version, .. } = &verdict;
    match outcome {
        UpdateOutcome::Installed => Ok(format!("updated from {from_version} to {to_version}")),
        UpdateOutcome::Unchanged => Ok(format!("{to_version} runs here already")),
        UpdateOutcome::RolledBack | UpdateOutcome::Refused | UpdateOutcome::Failed => {
            Err(UpdateError::NotInstalled {
                outcome: outcome.as_str(),
                code: verdict.code.unwrap_or_default(),
                message: verdict.message,
                version: verdict.from_version,
            })
        }
    }
}
