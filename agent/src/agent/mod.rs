//! The state of one agent process that outlives a single session.

pub mod facts;
pub mod frame_log;
pub mod request_log;
pub mod status_file;
pub mod telemetry;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use muster_protocol::commands::{file_transfer, probe, step};
use muster_protocol::facts::{CAPABILITY as FACTS_CAPABILITY, FactReport};
use muster_protocol::frame::{AgentFrame, Registered, Registration};
use muster_protocol::identity::{
    AUTHORITIES_CAPABILITY, AgentKeyPair, CERTIFICATE_CAPABILITY, Challenge, Fingerprint,
};
use muster_protocol::limits::MAX_MAX_EXECUTIONS;
use muster_protocol::parameter::secret_parameters;
use muster_protocol::{CommandName, PROTOCOL_VERSION, library, package, release};
use tokio::sync::watch;
use uuid::Uuid;

use crate::agent::frame_log::FrameLog;
use crate::agent::request_log::{RequestLog, RequestRecord};
use crate::agent::status_file::StatusFile;
use crate::agent::telemetry::TelemetryCollector;
use crate::commands::CommandContext;
use crate::commands::execute::OutputLimits;
use crate::config::ChosenFacts;
use crate::executions::ledger::record::Attestor;
use crate::executions::ledger::{KnownState, Ledger};
use crate::executions::{ExecutionManager, ExecutionManagerError, remove_assignments};
use crate::identity::client_certificate::ClientCertificate;
use crate::identity::key::KeyRing;
use crate::identity::key_pair::{self, KeyPairError};
use crate::identity::{HostInfo, Identity, KeyRejected};
use crate::link::Authorities;
use crate::policy::manifest::ManifestFile;
use crate::policy::minimum_versions::MinimumVersions;
use crate::policy::used_capsules::UsedCapsules;
use crate::policy::{Forbidden, Policy, PolicyFile};
use crate::releases::UpdateRequests;
use crate::releases::update_requests::Supervision;
use crate::storage::StorageError;
use crate::storage::layout::StateDir;

/// Size of the ticket that a server issues with an agent's id.
const MAX_TICKET_BYTES: usize = 512;

/// One agent, from the start of its process to its end.
#[derive(Debug)]
pub struct Agent {
    pub state: StateDir,
    pub identity: Identity,
    pub keys: KeyRing,
    /// Proves the identity.
    pub key_pair: AgentKeyPair,
    /// Shown to the server in the handshake of TLS; `None` until it has issued one.
    pub certificate: Option<ClientCertificate>,
    /// Of the server's certificate.
    pub authorities: Authorities,
    pub host_info: HostInfo,
    pub manifest: ManifestFile,
    pub policy: PolicyFile,
    /// Signed approvals that were used, which count once.
    pub used_capsules: UsedCapsules,
    /// Old versions of library scripts that this host runs no more.
    pub minimum_versions: MinimumVersions,
    /// What the host's owner chose for the enrolment.
    pub chosen: ChosenFacts,
    pub telemetry: TelemetryCollector,
    pub executions: ExecutionManager,
    /// Requests to install another version of this program.
    pub update_requests: UpdateRequests,
    pub limits: HostLimits,
    /// The status file; absent in processes that do not report their status.
    pub status_file: Option<StatusFile>,
    /// What the server asked for, for the owner of this host.
    pub request_log: RequestLog,
    /// Paces log lines about the server's frames.
    pub frame_log: FrameLog,
    /// The newest facts of this host; absent in processes that do not collect them.
    pub facts: Option<watch::Receiver<Option<FactReport>>>,
    instance_id: Uuid,
    started_at: Instant,
}

/// What the host's configuration permits.
#[derive(Debug, Clone, Copy)]
pub struct HostLimits {
    pub max_executions: u32,
    pub output: OutputLimits,
    /// The agent applies the version that the server desires when it starts.
    pub applies_desired_version: bool,
}

/// Why an agent can't start or continue.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    KeyPair(#[from] KeyPairError),
    #[error(transparent)]
    ExecutionManager(#[from] ExecutionManagerError),
}

impl Agent {
    /// Opens the state directory. `shim_program` is the program that is started as a shim.
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
                "this state directory was created on another machine; setting its executions aside and enrolling this host again"
            );
            remove_assignments(&state)?;
            Ledger::set_aside(&state)?;
        }
        let key_pair = key_pair::load_or_create(&state, &loaded.identity.machine_id)?;
        // Saved only after the ledger was set aside: if the agent crashes in between, the next
        // start detects the other machine again. Saved only if needed: an agent must be able to
        // start on a full disk to report its executions.
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
            certificate: ClientCertificate::load(&state, &key_pair.public_key()),
            authorities: Authorities::default(),
            key_pair,
            host_info: HostInfo::this_host(),
            manifest: ManifestFile::open(&state)?,
            used_capsules: UsedCapsules::open(&state)?,
            minimum_versions: MinimumVersions::open(&state)?,
            policy,
            telemetry: TelemetryCollector::new(state.path()),
            executions: ExecutionManager::open(&state, shim_program, limits.max_executions)?,
            chosen: ChosenFacts::default(),
            limits,
            status_file: None,
            request_log: RequestLog::new(&state),
            frame_log: FrameLog::default(),
            facts: None,
            instance_id: Uuid::new_v4(),
            started_at: Instant::now(),
            state,
        };
        agent.grant_script_access();
        agent.apply_update_result();
        Ok(agent)
    }

    /// Reads the result of the update request and makes it the result of the command that requested
    /// it.
    pub fn apply_update_result(&mut self) {
        let Some(answer) = self.update_requests.take_result() else { return };
        // The result is already recorded if the previous agent process ended between the two steps.
        if let Some(response) = answer
            && self.executions.ledger().known(response.command_id) == KnownState::Never
            && let Err(error) = self.executions.settle_durably(response)
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the update result could not be written"
            );
            return;
        }
        if let Some(result) = self.update_requests.request_result() {
            self.request_log.append(&RequestRecord::update_result(result));
        }
        self.update_requests.remove_request();
    }

    /// Reads the manifest and the policy again if their files have changed. True if the server must
    /// be notified.
    pub fn reload_policy_and_manifest(&mut self) -> bool {
        let is_new_list = self.manifest.reload();
        let before = (self.policy_name(), self.forbidden_names());
        if self.policy.reload() {
            self.grant_script_access();
        }
        is_new_list || before != (self.policy_name(), self.forbidden_names())
    }

    /// The frame that reports the manifest and the policy to the server.
    pub fn manifest_frame(&self) -> AgentFrame {
        self.manifest.frame(self.policy_name(), self.forbidden_names())
    }

    /// False if the policy forbids this, or can't be used.
    pub fn permits(&self, forbidden: Forbidden) -> bool {
        self.policy.current().is_ok_and(|policy| !policy.forbid.contains(&forbidden))
    }

    /// True if the policy asks for the signed approval of updates.
    pub fn needs_approved_updates(&self) -> bool {
        let policy = self.policy.current().ok();
        let needed = policy.and_then(|policy| policy.needs_approval.as_ref());
        needed.is_some_and(|needed| needed.life_cycle)
    }

    fn forbidden_names(&self) -> Vec<String> {
        self.policy.current().map(Policy::forbidden_names).unwrap_or_default()
    }

    fn policy_name(&self) -> Option<String> {
        self.policy.current().ok().map(|policy| policy.allow.as_str().to_owned())
    }

    /// Grants the user that scripts run as access to the scripts folder.
    fn grant_script_access(&self) {
        let is_needed = self.policy.current().is_ok_and(|policy| policy.run_as.is_some());
        if is_needed && let Err(error) = self.state.grant_script_access() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "failed to grant the run_as user access to the scripts"
            );
        }
    }

    /// True if a server has ever issued an agent id.
    pub fn is_enrolled(&self) -> bool {
        self.identity.agent_id.is_some()
    }

    /// How long every server has rejected the key that this agent presents.
    pub fn key_rejected_for(&self) -> Duration {
        let key_sha256 = self.keys.fingerprint();
        let key_rejected = self.identity.key_rejected.as_ref();
        let same = key_rejected.filter(|key_rejected| key_rejected.key_sha256 == key_sha256);
        Duration::from_millis(same.map_or(0, |key_rejected| key_rejected.for_ms))
    }

    /// Records that a server does not know the key. The next successful registration clears it.
    pub fn record_key_rejection(&mut self) {
        let before = self.identity.key_rejected.take();
        self.set_key_rejected(Some(KeyRejected::repeated(before, self.keys.fingerprint())));
    }

    fn set_key_rejected(&mut self, key_rejected: Option<KeyRejected>) {
        self.identity.key_rejected = key_rejected;
        if let Err(error) = self.identity.save(&self.state) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to store the identity"
            );
        }
    }

    /// The content of the `register` frame, with the proof of this agent's identity for a connection.
    pub fn registration(&self, challenge: &Challenge, agent_key_id: Uuid) -> Registration {
        let head = self.executions.ledger().head();
        let claims = Registration {
            agent_id: self.identity.agent_id.map(|id| id.hyphenated().to_string()),
            hostname: self.host_info.hostname.clone(),
            ip: self.host_info.ip.clone(),
            version: self.host_info.version.to_owned(),
            os: self.host_info.os.clone(),
            capabilities: CommandName::ALL
                .iter()
                .map(|name| name.as_str())
                .chain([
                    secret_parameters::CAPABILITY,
                    release::CAPABILITY,
                    library::CAPABILITY,
                    package::CAPABILITY,
                    file_transfer::CAPABILITY,
                    step::CAPABILITY,
                    probe::CAPABILITY,
                    package::ASSIGNMENTS_CAPABILITY,
                    package::ASSIGNED_SCRIPTS_CAPABILITY,
                    CERTIFICATE_CAPABILITY,
                    FACTS_CAPABILITY,
                ])
                .chain(self.authorities.is_managed().then_some(AUTHORITIES_CAPABILITY))
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
            public_key: None,
            proof: None,
            ticket: self.identity.ticket.clone(),
            has_certificate: self.certificate.is_some(),
            name: self.chosen.name.clone(),
            tags: self.chosen.tags.clone(),
            authorities_id: self.authorities.notice_id(),
            service_manager: self.host_info.service_manager.clone(),
        };
        claims.prove(&self.key_pair, challenge, agent_key_id)
    }

    /// Of the host's key pair.
    pub fn fingerprint(&self) -> Fingerprint {
        self.key_pair.public_key().fingerprint()
    }

    /// Signs results, in a session that is registered.
    pub fn attestor(&self) -> Attestor<'_> {
        Attestor { key_pair: &self.key_pair, agent_id: self.identity.agent_id.unwrap_or_default() }
    }

    /// Makes the content of `registered` durable before the session does anything else. Returns
    /// true if the registered ledger was replaced: the session must then end before the server
    /// delivers anything in it, because the next session would have to report it as lost.
    ///
    /// # Errors
    /// [`AgentError`] if the content can't be made durable; the session must not continue then.
    pub fn apply_registered(&mut self, registered: &Registered) -> Result<bool, AgentError> {
        let mut was_reset = false;
        let issued = Some(registered.agent_id);
        if self.identity.agent_id != issued {
            if self.is_enrolled() {
                tracing::warn!(
                    agent_id = %registered.agent_id,
                    "the server enrolled this host again; setting its former executions aside"
                );
                self.executions.reset()?;
                was_reset = true;
            }
            let identity = Identity { agent_id: issued, ticket: None, ..self.identity.clone() };
            identity.save(&self.state)?;
            self.identity = identity;
        }
        self.store_ticket(registered.ticket.clone());
        if self.identity.key_rejected.is_some() {
            self.set_key_rejected(None);
        }
        if let Err(error) = self.keys.accepted(&self.state) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "failed to delete a key that the server does not know");
        }
        if let Err(error) = self.executions.ledger_mut().record_epoch(registered.epoch) {
            // The epoch only helps to detect a restored server, so on a full disk the session takes
            // precedence.
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to store the epoch");
        }
        Ok(was_reset)
    }

    /// Stores the ticket of the agent's id. It only matters to a restored server, so on a full disk
    /// the session takes precedence.
    fn store_ticket(&mut self, ticket: Option<String>) {
        let ticket = ticket.filter(|ticket| ticket.len() <= MAX_TICKET_BYTES);
        if self.identity.ticket == ticket {
            return;
        }
        self.identity.ticket = ticket;
        if let Err(error) = self.identity.save(&self.state) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "failed to store the ticket of this agent's id");
        }
    }

    /// Stores a certificate of the server for the next connections.
    pub fn store_certificate(&mut self, certificate: String) {
        let public_key = self.key_pair.public_key();
        match ClientCertificate::store(certificate, &self.state, &public_key) {
            Ok(stored) => {
                tracing::info!("the server issued a certificate to this agent");
                self.certificate = Some(stored);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a certificate of the server can't be used");
            }
        }
    }

    /// What transient commands may read.
    pub fn command_context(&self) -> CommandContext<'_> {
        CommandContext {
            host_info: &self.host_info,
            agent_id: self.identity.agent_id,
            running_for: self.started_at.elapsed(),
            manifest: self.manifest.current(),
        }
    }
}
