//! Everything that outlives a session.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use muster_protocol::frame::{AgentFrame, Registered, Registration};
use muster_protocol::limits::MAX_MAX_EXECUTIONS;
use muster_protocol::{CommandName, PROTOCOL_VERSION, release, secret_parameters};
use uuid::Uuid;

use crate::commands::Surroundings;
use crate::commands::execute::OutputBounds;
use crate::custody::{Custody, CustodyError};
use crate::host::board::Board;
use crate::identity::{About, Disowned, Identity};
use crate::key::KeyRing;
use crate::layout::StateDir;
use crate::ledger::{Known, Ledger};
use crate::manifest::ManifestFile;
use crate::policy::PolicyFile;
use crate::release::Desk;
use crate::release::desk::Supervision;
use crate::storage::StorageError;
use crate::telemetry::Meter;

/// One agent, from the start of its process to the end.
#[derive(Debug)]
pub struct Agent {
    pub state: StateDir,
    pub identity: Identity,
    pub keys: KeyRing,
    pub about: About,
    pub manifest: ManifestFile,
    pub policy: PolicyFile,
    pub meter: Meter,
    pub custody: Custody,
    /// Other versions of this program.
    pub desk: Desk,
    pub limits: HostLimits,
    /// Where it is told how this agent stands with its server; nowhere when absent.
    pub board: Option<Board>,
    instance_id: Uuid,
    began_at: Instant,
}

/// What the host grants.
#[derive(Debug, Clone, Copy)]
pub struct HostLimits {
    pub max_executions: u32,
    pub output: OutputBounds,
    /// The version that the server wants at the start is asked for.
    pub follows_wish: bool,
}

/// Why an agent can't begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Custody(#[from] CustodyError),
}

impl Agent {
    /// Opens the state directory. `shim_program` is what jobs are started with.
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
                "this state directory is another machine's: enrolling anew, its jobs are set aside"
            );
            Ledger::set_aside(&state)?;
        }
        // After the setting aside: a crash in between finds the other machine once more. And only
        // if there is need: an agent must be able to begin on a full disk, to tell of its jobs.
        if !loaded.is_stored {
            loaded.identity.save(&state)?;
        }
        let policy = PolicyFile::open(&state);
        let mut agent = Self {
            desk: Desk::open(&state, Supervision::from_environment(), limits.follows_wish),
            identity: loaded.identity,
            keys,
            about: About::this_host(),
            manifest: ManifestFile::open(&state)?,
            policy,
            meter: Meter::new(state.path()),
            custody: Custody::open(&state, shim_program, limits.max_executions)?,
            limits,
            board: None,
            instance_id: Uuid::new_v4(),
            began_at: Instant::now(),
            state,
        };
        agent.let_scripts_through();
        agent.take_verdict();
        Ok(agent)
    }

    /// Looks for the verdict on what was wished for, and makes it the result of the command that
    /// wished it.
    pub fn take_verdict(&mut self) {
        let Some(answer) = self.desk.answer() else { return };
        // Known already, if the agent before this one ended between the two steps.
        if let Some(response) = answer
            && self.custody.ledger().known(response.command_id) == Known::Never
            && let Err(error) = self.custody.settle_durably(response)
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the verdict was not written"
            );
            return;
        }
        self.desk.close();
    }

    /// Reads list and policy again if they have changed. True if there is something new to tell.
    pub fn reload_rules(&mut self) -> bool {
        let is_new_list = self.manifest.reload();
        let before = self.policy_word();
        if self.policy.reload() {
            self.let_scripts_through();
        }
        is_new_list || before != self.policy_word()
    }

    /// What the server is told of list and policy.
    pub fn rules(&self) -> AgentFrame {
        self.manifest.frame(self.policy_word())
    }

    fn policy_word(&self) -> Option<String> {
        self.policy.current().ok().map(|policy| policy.allow.as_str().to_owned())
    }

    /// Opens the way to the scripts to the user that they are run as.
    fn let_scripts_through(&self) {
        let is_needed = self.policy.current().is_ok_and(|policy| policy.run_as.is_some());
        if is_needed && let Err(error) = self.state.let_scripts_through() {
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
    pub fn disowned_for(&self) -> Duration {
        let key_sha256 = self.keys.fingerprint();
        let disowned = self.identity.disowned.as_ref();
        let same = disowned.filter(|disowned| disowned.key_sha256 == key_sha256);
        Duration::from_millis(same.map_or(0, |disowned| disowned.for_ms))
    }

    /// Remembers that a server does not know the key; the next one that registers this agent ends it.
    pub fn note_unknown_key(&mut self) {
        let before = self.identity.disowned.take();
        self.set_disowned(Some(Disowned::again(before, self.keys.fingerprint())));
    }

    fn set_disowned(&mut self, disowned: Option<Disowned>) {
        self.identity.disowned = disowned;
        if let Err(error) = self.identity.save(&self.state) {
            tracing::warn!(error = &error as &dyn std::error::Error, "identity not stored");
        }
    }

    /// What the server is told first.
    pub fn registration(&self) -> Registration {
        let head = self.custody.ledger().head();
        Registration {
            agent_id: self.identity.agent_id.map(|id| id.hyphenated().to_string()),
            hostname: self.about.hostname.clone(),
            ip: self.about.ip.clone(),
            version: self.about.version.to_owned(),
            os: self.about.os.clone(),
            capabilities: CommandName::ALL
                .iter()
                .map(|name| name.as_str())
                .chain([secret_parameters::CAPABILITY, release::CAPABILITY])
                .map(str::to_owned)
                .collect(),
            protocol: Some(PROTOCOL_VERSION),
            arch: Some(self.about.arch.to_owned()),
            ledger_id: Some(head.ledger_id),
            acceptance_count: Some(head.acceptance_count),
            machine_id: Some(self.identity.machine_id.clone()),
            instance_id: Some(self.instance_id),
            highest_epoch: Some(head.highest_epoch),
            max_executions: Some(self.limits.max_executions.min(MAX_MAX_EXECUTIONS)),
            policy: self.policy_word(),
            update: self.desk.verdict().cloned(),
        }
    }

    /// Makes durable what `registered` says, before anything is done in the session. True if the
    /// ledger that was registered is not the one that goes on: the session must end before anything
    /// is delivered in it, or the next one would have to call it lost.
    ///
    /// # Errors
    /// [`AgentError`] if it can't be made durable; the session must not go on then.
    pub fn registered(&mut self, registered: &Registered) -> Result<bool, AgentError> {
        let mut has_begun_anew = false;
        let issued = Some(registered.agent_id);
        if self.identity.agent_id != issued {
            if self.is_enrolled() {
                tracing::warn!(
                    agent_id = %registered.agent_id,
                    "the server has enrolled this host anew: its former jobs are set aside"
                );
                self.custody.begin_anew()?;
                has_begun_anew = true;
            }
            let identity = Identity { agent_id: issued, ..self.identity.clone() };
            identity.save(&self.state)?;
            self.identity = identity;
        }
        if self.identity.disowned.is_some() {
            self.set_disowned(None);
        }
        if let Err(error) = self.custody.ledger_mut().saw_epoch(registered.epoch) {
            // It only helps to tell a restored server; on a full disk the session matters more.
            tracing::warn!(error = &error as &dyn std::error::Error, "epoch not stored");
        }
        Ok(has_begun_anew)
    }

    /// What transient commands may look at.
    pub fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            about: &self.about,
            agent_id: self.identity.agent_id,
            running_for: self.began_at.elapsed(),
            manifest: self.manifest.current(),
        }
    }
}
