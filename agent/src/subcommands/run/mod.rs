//! The agent process: opens links and runs sessions over them until the process must end.

pub mod dialer;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use muster_protocol::{CloseCode, ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::dialer::Dialer;
use crate::agent::status_file::{ReportedLimits, StatusFile};
use crate::agent::{Agent, AgentError, HostLimits, facts};
use crate::commands::execute::OutputLimits;
use crate::commands::task::TaskPlanner;
use crate::config::Config;
use crate::executions::{self, MAX_TASK_OUTPUT_BYTES, packages::PackageStore};
use crate::fault;
use crate::identity::instance_lock::{InstanceLock, InstanceLockError};
use crate::identity::key::KeyRing;
use crate::link::{ConnectError, Link, LinkError};
use crate::platform;
use crate::releases::PackageDownloads;
use crate::sessions::reconnect::{EndCause, EnrolmentState, Reconnect, ReconnectStep};
use crate::sessions::{self, SessionEnd, SessionOutcome, poll_with};
use crate::storage::StorageError;
use crate::storage::layout::StateDir;

/// How long services may take to end before the agent exits for good: 30 s.
const SERVICE_END_TIME: Duration = Duration::from_secs(30);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    InstanceLock(#[from] InstanceLockError),
    #[error("failed to use the state directory")]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs the agent until it must end; returns the exit code of its process.
///
/// # Errors
/// [`RunError`] if it can't start: the state directory is unusable or in use.
pub async fn run(config: Config) -> Result<ExitCode, RunError> {
    fault::warn_if_set();
    let state = StateDir::create(&config.state_dir)?;
    let _instance = InstanceLock::take(&state).await?;
    let reported = ReportedLimits {
        max_executions: config.max_executions,
        output_limit_bytes: config.output_limit_bytes,
        output_quota_bytes: config.output_quota_bytes,
    };
    let status_file = StatusFile::create(&state, config.endpoint.websocket_url(), reported);
    let keys = KeyRing::load(config.api_key.clone(), &state)?;
    let limits = HostLimits {
        max_executions: config.max_executions,
        output: config.output_limits(),
        applies_desired_version: !config.skip_update,
    };
    // It finds what a shim leaves that is killed.
    if let Err(error) = platform::become_subreaper() {
        tracing::warn!(%error, "processes that leave their session can't be found if a shim is killed");
    }
    let mut agent = Agent::open(state, keys, limits, executions::shim_program())?;
    agent.chosen.clone_from(&config.chosen);
    agent.authorities = config.authorities.clone();
    let downloads = PackageDownloads::new(config.clone(), agent.state.clone());
    let packages = PackageStore::new(agent.state.clone(), Arc::new(downloads));
    agent.executions.use_packages(packages);
    let output = OutputLimits {
        limit_bytes: limits.output.limit_bytes.min(MAX_TASK_OUTPUT_BYTES),
        ..limits.output
    };
    let planner = TaskPlanner::new(agent.state.clone(), agent.minimum_versions.clone(), output);
    agent.executions.use_assignments(Box::new(planner))?;
    let status_file = agent.status_file.insert(status_file);
    let fingerprint = agent.key_pair.public_key().fingerprint();
    status_file.set_identity(agent.identity.agent_id, fingerprint);
    agent.facts = Some(facts::watch(executions::shim_program(), agent.state.clone()));
    let mut stop = stop_signal()?;
    tracing::info!(
        version = agent.host_info.version,
        %fingerprint,
        server = %config.endpoint.websocket_url(),
        proxy = config.proxy.as_ref().map(tracing::field::display),
        state_dir = %agent.state.path().display(),
        "muster-agent started"
    );
    Ok(live(&config, &mut agent, &mut stop).await)
}

async fn live(config: &Config, agent: &mut Agent, stop: &mut watch::Receiver<bool>) -> ExitCode {
    let mut reconnect = Reconnect::new(config.fallback);
    let mut dialer = Dialer::new(config);
    let mut ready: Option<Box<dyn Link>> = None;
    let mut issued_key_rejection = None;
    let owner = agent.executions.owner_requests();
    loop {
        // Without a session these events are dropped; the next session starts with an inventory.
        let mut unreported = Vec::new();
        let link = match ready.take() {
            Some(link) => Ok(link),
            None => {
                dialer.follow(agent.authorities.notice_id());
                let dialing = dialer.dial(
                    reconnect.transport(),
                    agent.keys.clone(),
                    agent.certificate.clone(),
                );
                let dialing = poll_with(&mut agent.executions, dialing, &mut unreported).boxed();
                tokio::select! {
                    link = dialing => link,
                    () = owner.notified() => match agent.update_requests.accept_owner_request() {
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
                sessions::run(link, agent, stop, upgrade).boxed().await
            }
            Err(error) => SessionOutcome { end: SessionEnd::Broken(error), was_registered: false },
        };
        let difference = match &ended.end {
            SessionEnd::Broken(error) => {
                let asking = dialer.clock_difference(error);
                poll_with(&mut agent.executions, asking, &mut unreported).boxed().await
            }
            _ => None,
        };
        if let Some(difference) = &difference {
            tracing::error!("{difference}; set the clock, and synchronise it with NTP");
        }
        if let (Some(status_file), Some(sentence)) =
            (&mut agent.status_file, ended.end.description())
        {
            let sentences: Vec<_> = [Some(sentence), difference].into_iter().flatten().collect();
            status_file.set_disconnected(sentences.join("; "));
        }
        let mut cause = match ended.end {
            SessionEnd::Stopped => {
                tracing::info!("stopped; running executions continue");
                return ExitCode::Stop;
            }
            SessionEnd::Exit(code) => return code,
            // Only happens on request.
            SessionEnd::Deregistered => return ExitCode::Stop,
            SessionEnd::Upgraded(link) => {
                tracing::info!("a WebSocket works again");
                reconnect.upgraded();
                ready = Some(link);
                continue;
            }
            SessionEnd::Drained(delay) => EndCause::Drained(delay),
            SessionEnd::Closed { meaning: Some(meaning), .. } => {
                tracing::warn!(reason = meaning.reason(), "the server closed the session");
                EndCause::Closed(meaning)
            }
            SessionEnd::Closed { code, reason, meaning: None } => {
                tracing::warn!(code, %reason, "the server closed the session");
                EndCause::Broken
            }
            SessionEnd::Broken(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the connection to the server failed"
                );
                if matches!(error, LinkError::Blocked(ConnectError::UnknownIssuer { .. })) {
                    dialer.reload_authorities();
                }
                match error.close_code() {
                    Some(code) => EndCause::Closed(code),
                    None if error.is_forbidden_upgrade() => EndCause::UpgradeForbidden,
                    None => EndCause::Broken,
                }
            }
            SessionEnd::Failed(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "failed to store the session's state; check the state directory"
                );
                EndCause::Broken
            }
        };
        if let EndCause::Closed(code) = cause
            && is_rejected_key(code)
        {
            if agent.keys.rejected() {
                tracing::warn!(
                    "the server does not accept the key that it issued; the configured key is tried"
                );
                issued_key_rejection = Some(code);
                continue;
            }
            // If it accepts neither, what it says about the newer key decides.
            cause = EndCause::Closed(issued_key_rejection.take().unwrap_or(code));
        }
        if cause == EndCause::Closed(CloseCode::KeyUnknown) {
            agent.record_key_rejection();
        }
        if matches!(cause, EndCause::Closed(CloseCode::KeyDisabled | CloseCode::TenantClosed)) {
            // A person has withdrawn what the key permits. The next session says what it permits then.
            agent.executions.permit_tasks(false);
        }
        let enrolment = EnrolmentState {
            is_enrolled: agent.is_enrolled(),
            key_rejected_for: agent.key_rejected_for(),
        };
        match reconnect.next_step(cause, ended.was_registered, enrolment) {
            ReconnectStep::Exit { code, reason } => {
                tracing::error!(exit_code = code.code(), "{reason}");
                if code == ExitCode::Fatal {
                    // The supervisor starts no agent again that would watch them.
                    agent.executions.end_services(SERVICE_END_TIME).await;
                }
                return code;
            }
            ReconnectStep::After(delay) => {
                tracing::info!(
                    delay_ms = delay.as_millis() as u64,
                    "connecting again after a delay"
                );
                let pause = tokio::time::sleep(delay);
                tokio::select! {
                    () = poll_with(&mut agent.executions, pause, &mut unreported) => {}
                    () = owner.notified() => {
                        if let Some(code) = agent.update_requests.accept_owner_request() {
                            return code;
                        }
                    }
                    _ = stop.wait_for(|stop| *stop) => return ExitCode::Stop,
                }
            }
        }
    }
}

/// True if the server will not accept this key again.
fn is_rejected_key(code: CloseCode) -> bool {
    matches!(code, CloseCode::KeyUnknown | CloseCode::KeyDeleted | CloseCode::KeyRegenerated)
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
        // Keeps the sender: without one the receiver would report a stop.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}
