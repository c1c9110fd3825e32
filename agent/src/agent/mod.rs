//! Everything that outlives a session.

pub mod status_file;
pub mod telemetry;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use muster_protocol::frame::{AgentFrame, Registered, Registration};
use muster_protocol::limits::MAX_MAX_EXECUTIONS;
use muster_protocol::{CommandName, PROTOCOL_VERSION, release, secret_parameters};
use uuid::Uuid;

use crate::agent::status_file::StatusFile;
use crate::agent::telemetry::TelemetryCollector;
use crate::commands::CommandContext;
use crate::commands::execute::OutputLimits;
use crate::executions::ledger::{KnownState, Ledger};
use crate::executions::{ExecutionManager, ExecutionManagerError};
use crate::identity::key::KeyRing;
use crate::identity::{HostInfo, Identity, KeyRejected};
use crate::policy::PolicyFile;
use crate::policy::manifest::ManifestFile;
use crate::releases::UpdateRequests;
use crate::releases::update_requests::Supervision;
use crate::storage::StorageError;
use crate::storage::layout::StateDir;

/// One agent, from the start of its process to the end.
#[derive(Debug)]
pub struct Agent {
    pub state: StateDir,
    pub identity: Identity,
    pub keys: KeyRing,
    pub host_info: HostInfo,
    pub manifest: ManifestFile,
    pub policy: PolicyFile,
    pub telemetry: TelemetryCollector,
    pub executions: ExecutionManager,
    /// Other versions of this program.
    pub update_requests: UpdateRequests,
    pub limits: HostLimits,
    /// Where it is told how this agent stands with its server; nowhere when absent.
    pub status_file: Option<StatusFile>,
    instance_id: Uuid,
    started_at: Instant,
}

/// What the host grants.
#[derive(Debug, Clone, Copy)]
pub struct HostLimits {
    pub max_executions: u32,
    pub output: OutputLimits,
    /// The version that the server wants at the start is asked for.
    pub applies_desired_version: bool,
}

/// Why an agent can't begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    ExecutionManager(#[from] ExecutionManagerError),
}

impl Agent {
    /// Opens the state directory. `shim_program` is what executions are started with.
    ///
    /// # Errors
    /// [`AgentError`] if something in the state directory can't be used.
    pub fn open(
        state: StateDir,
        keys: KeyRing,
        limits: HostLimits,
        shim_program: PathBuf,
    ) -> Result<Self, AgentError> {
        let loaded = Identity::load(&state)?;
        if loaded.is_other_machine {
            tracing::warn!(
                "this state directory is another machine's: enrolling anew, its executions are set aside"
            );
            Ledger::set_aside(&state)?;
        }
        // After the setting aside: a crash in between finds the other machine once more. And only
        // if there is need: an agent must be able to begin on a full disk, to tell of its executions.
        if !loaded.is_stored {
            loaded.identity.save(&state)?;
        }
        let policy = PolicyFile::open(&state);
        let mut agent = Self {
            update_requests: UpdateRequests::open(
                &state,
                Supervision::from_environment(),
                limits.applies_desired_version,
            ),
            identity: loaded.identity,
            keys,
            host_info: HostInfo::this_host(),
            manifest: ManifestFile::open(&state)?,
            policy,
            telemetry: TelemetryCollector::new(state.path()),
            executions: ExecutionManager::open(&state, shim_program, limits.max_executions)?,
            limits,
            status_file: None,
            instance_id: Uuid::new_v4(),
            started_at: Instant::now(),
            state,
        };
        agent.grant_script_access();
        agent.apply_update_result();
        Ok(agent)
    }

    /// Looks for the verdict on what was wished for, and makes it the result of the command that
    /// wished it.
    pub fn apply_update_result(&mut self) {
        let Some(answer) = self.update_requests.take_result() else { return };
        // KnownState already, if the agent before this one ended between the two steps.
        if let Some(response) = answer
            && self.executions.ledger().known(response.command_id) == KnownState::Never
            && let Err(error) = self.executions.settle_durably(response)
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the verdict was not written"
            );
            return;
        }
        self.update_requests.remove_request();
    }

    /// Reads list and policy again if they have changed. True if there is something new to tell.
    pub fn reload_policy_and_manifest(&mut self) -> bool {
        let is_new_list = self.manifest.reload();
        let before = self.policy_name();
        if self.policy.reload() {
            self.grant_script_access();
        }
        is_new_list || before != self.policy_name()
    }

    /// What the server is told of list and policy.
    pub fn manifest_frame(&self) -> AgentFrame {
        self.manifest.frame(self.policy_name())
    }

    fn policy_name(&self) -> Option<String> {
        self.policy.current().ok().map(|policy| policy.allow.as_str().to_owned())
    }

    /// Opens the way to the scripts to the user that they are run as.
    fn grant_script_access(&self) {
        let is_needed = self.policy.current().is_ok_and(|policy| policy.run_as.is_some());
        if is_needed && let Err(error) = self.state.grant_script_access() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "scripts not opened to run_as"
            );
        }
    }

    /// True if a server has ever issued an id.
    pub fn is_enrolled(&self) -> bool {
        self.identity.agent_id.is_some()
    }

    /// For how long no server has known the key that this agent presents.
    pub fn key_rejected_for(&self) -> Duration {
        let key_sha256 = self.keys.fingerprint();
        let key_rejected = self.identity.key_rejected.as_ref();
        let same = key_rejected.filter(|key_rejected| key_rejected.key_sha256 == key_sha256);
        Duration::from_millis(same.map_or(0, |key_rejected| key_rejected.for_ms))
    }

    /// Remembers that a server does not know the key; the next one that registers this agent ends it.
    pub fn record_key_rejection(&mut self) {
        let before = self.identity.key_rejected.take();
        self.set_key_rejected(Some(KeyRejected::repeated(before, self.keys.fingerprint())));
    }

    fn set_key_rejected(&mut self, key_rejected: Option<KeyRejected>) {
        self.identity.key_rejected = key_rejected;
        if let Err(error) = self.identity.save(&self.state) {
            tracing::warn!(error = &error as &dyn std::error::Error, "identity not stored");
        }
    }

    /// What the server is told first.
    pub fn registration(&self) -> Registration {
        let head = self.executions.ledger().head();
        Registration {
            agent_id: self.identity.agent_id.map(|id| id.hyphenated().to_string()),
            hostname: self.host_info.hostname.clone(),
            ip: self.host_info.ip.clone(),
            version: self.host_info.version.to_owned(),
            os: self.host_info.os.clone(),
            capabilities: CommandName::ALL
                .iter()
                .map(|name| name.as_str())
                .chain([secret_parameters::CAPABILITY, release::CAPABILITY])
                .map(str::to_owned)
                .collect(),
            protocol: Some(PROTOCOL_VERSION),
            arch: Some(self.host_info.arch.to_owned()),
            ledger_id: Some(head.ledger_id),
            acceptance_count: Some(head.acceptance_count),
            machine_id: Some(self.identity.machine_id.clone()),
            instance_id: Some(self.instance_id),
            highest_epoch: Some(head.highest_epoch),
            max_executions: Some(self.limits.max_executions.min(MAX_MAX_EXECUTIONS)),
            policy: self.policy_name(),
            update: self.update_requests.last_result().cloned(),
        }
    }

    /// Makes durable what `registered` says, before anything is done in the session. True if the
    /// ledger that was registered is not the one that goes on: the session must end before anything
    /// is delivered in it, or the next one would have to call it lost.
    ///
    /// # Errors
    /// [`AgentError`] if it can't be made durable; the session must not go on then.
    pub fn apply_registered(&mut self, registered: &Registered) -> Result<bool, AgentError> {
        let mut was_reset = false;
        let issued = Some(registered.agent_id);
        if self.identity.agent_id != issued {
            if self.is_enrolled() {
                tracing::warn!(
                    agent_id = %registered.agent_id,
                    "the server has enrolled this host anew: its former executions are set aside"
                );
                self.executions.reset()?;
                was_reset = true;
            }
            let identity = Identity { agent_id: issued, ..self.identity.clone() };
            identity.save(&self.state)?;
            self.identity = identity;
        }
        if self.identity.key_rejected.is_some() {
            self.set_key_rejected(None);
        }
        if let Err(error) = self.executions.ledger_mut().record_epoch(registered.epoch) {
            // It only helps to tell a restored server; on a full disk the session matters more.
            tracing::warn!(error = &error as &dyn std::error::Error, "epoch not stored");
        }
        Ok(was_reset)
    }

    /// What transient commands may look at.
    pub fn command_context(&self) -> CommandContext<'_> {
        CommandContext {
            host_info: &self.host_info,
            agent_id: self.identity.agent_id,
            running_for: self.started_at.elapsed(),
            manifest: self.manifest.current(),
        }
    }
}
