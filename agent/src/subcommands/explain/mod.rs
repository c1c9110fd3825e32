//! `muster-agent explain`: everything that the server could do on this host, what it asked for
//! lately, and what was refused. Reads files only, and works without the agent and the network.

mod history;
mod text;

use std::path::{Path, PathBuf};

use muster_protocol::limits::{DEFAULT_MAX_EXECUTIONS, MAX_SCRIPT_MANIFEST_BYTES, MAX_TIMEOUT_MS};
use muster_protocol::manifest::{Manifest, Script};
use muster_protocol::parameter::AcceptedParameters;
use muster_protocol::parameter::secret_parameters::SecretDelivery;
use serde::Serialize;

pub use self::history::{Failure, RequestEntry};
use super::InspectError;
use super::open_executions::OpenExecution;
use super::status::{AgentState, HostReport};
use crate::agent::facts::{self, FactFile};
use crate::agent::status_file::ReportedLimits;
use crate::executions::ledger::command_limit;
use crate::executions::shim::verify;
use crate::identity::service_manager::own_program_dir;
use crate::platform::{self, Account};
use crate::policy::guard;
use crate::policy::needs_approval::NeedsApproval;
use crate::policy::{self, Allow, Forbidden, Policy, PolicyFile};
use crate::storage::layout::StateDir;

/// The shape of the JSON document.
const FORMAT: u32 = 1;
/// Largest file of the program folder that is read, in bytes.
const MAX_PIN_BYTES: u64 = 4 * 1024;

/// Everything that the server of this host could do, and what it did lately.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub format: u32,
    pub state_dir: String,
    pub agent_state: AgentState,
    /// Absent before the first start of an agent.
    pub server_url: Option<String>,
    /// Why nothing can be run, if the policy is invalid.
    pub policy_error: Option<String>,
    /// Why the manifest file is not in force. An agent that is running keeps the last valid one.
    pub manifest_error: Option<String>,
    pub scripts: Vec<ScriptEntry>,
    /// The server may run any program with any arguments.
    pub ad_hoc_commands: bool,
    /// The server may run scripts of its library.
    pub library: bool,
    /// Fingerprints of the publishers one of whom must have signed a script of the library; absent if the
    /// host runs any.
    pub publishers: Option<Vec<String>>,
    /// Folders whose files the server may read.
    pub readable_folders: Vec<String>,
    /// Folders in which the server may write files.
    pub writable_folders: Vec<String>,
    /// The user that all of this runs as.
    pub runs_as: String,
    pub life_cycle: Vec<LifeCycleEntry>,
    /// What the server can only do with the signature of an approver; absent if nothing.
    pub needs_approval: Option<ApprovalEntry>,
    pub releases: ReleaseTrust,
    /// Facts that the host does not report; `*` for all.
    pub withheld_facts: Vec<String>,
    /// Files of `facts.d`, whose facts the host reports.
    pub fact_files: Vec<FactFile>,
    pub limits: Limits,
    pub running: Vec<OpenExecution>,
    /// Newest first.
    pub requests: Vec<RequestEntry>,
}

/// One script of the manifest.
#[derive(Debug, Serialize)]
pub struct ScriptEntry {
    pub name: String,
    pub path: String,
    pub description: Option<String>,
    /// The server may set any environment variable, except names that are always refused.
    pub any_parameters: bool,
    pub parameters: Vec<ParameterEntry>,
    pub secrets: SecretDelivery,
    /// The server may send standard input.
    pub stdin: bool,
    /// The longest run time.
    pub timeout_ms: u64,
    /// The file must have the hash that the manifest states.
    pub is_pinned: bool,
    /// Why it can't start at the moment.
    pub problem: Option<String>,
}

/// One declared parameter.
#[derive(Debug, Serialize)]
pub struct ParameterEntry {
    pub name: String,
    pub required: bool,
    pub secret: bool,
    /// The permitted values; empty permits any.
    pub choices: Vec<String>,
}

/// Something that the server can do to the agent itself.
#[derive(Debug, Serialize)]
pub struct LifeCycleEntry {
    pub name: &'static str,
    pub is_allowed: bool,
}

/// What needs the signature of a pinned approver.
#[derive(Debug, Serialize)]
pub struct ApprovalEntry {
    /// Fingerprints of the keys.
    pub approvers: Vec<String>,
    /// Scripts that need it; absent if all do.
    pub scripts: Option<Vec<String>>,
    pub ad_hoc: bool,
    pub life_cycle: bool,
}

/// Which releases the supervisor of this host installs.
#[derive(Debug, Default, Serialize)]
pub struct ReleaseTrust {
    /// The folder with the programs; absent if this program is not part of an installation.
    pub program_dir: Option<String>,
    /// The fingerprint of the key that must have signed a release.
    pub key: Option<String>,
    /// The lowest version that is installed.
    pub lowest_version: Option<String>,
    /// Why this could not be read.
    pub error: Option<String>,
}

/// What bounds the server on this host.
#[derive(Debug, Serialize)]
pub struct Limits {
    pub max_executions: u32,
    /// Commands that have not ended, or whose results the server has not acknowledged.
    pub max_commands: usize,
    pub output_limit_bytes: u64,
    pub output_quota_bytes: u64,
    pub max_timeout_ms: u64,
}

impl Explanation {
    /// Reads the state directory. `program_dir` is the folder of the installation, or `None` to
    /// find it by this program's path. `count` bounds the requests.
    ///
    /// # Errors
    /// [`InspectError`] if this user may not read it.
    pub fn read(
        state_dir: &Path,
        program_dir: Option<PathBuf>,
        count: usize,
    ) -> Result<Self, InspectError> {
        let report = HostReport::read(state_dir)?;
        let state = StateDir::at(state_dir);
        let policy_file = PolicyFile::open(&state);
        let policy = policy_file.current();
        let in_force = policy.cloned().unwrap_or_default();
        let (manifest, manifest_error) = match read_manifest(&state) {
            Ok(manifest) => (manifest, None),
            Err(error) => (Manifest::default(), Some(error)),
        };
        let account = in_force.run_as.as_deref().map(policy::account);
        let account = account.and_then(Result::ok);
        let script = |script| ScriptEntry::of(script, &state, account.as_ref());
        let reported = report.agent.as_ref().and_then(|agent| agent.limits);
        Ok(Self {
            format: FORMAT,
            state_dir: report.state_dir,
            agent_state: report.state,
            server_url: report.agent.map(|agent| agent.server_url),
            policy_error: policy.err().map(str::to_owned),
            manifest_error,
            scripts: manifest.scripts.iter().map(script).collect(),
            ad_hoc_commands: policy.is_ok() && in_force.allow == Allow::Shell,
            library: policy.is_ok() && in_force.allow != Allow::Manifest,
            publishers: in_force
                .publishers
                .as_ref()
                .map(|keys| keys.iter().map(|key| key.fingerprint().to_string()).collect()),
            readable_folders: in_force.files.iter().flat_map(|files| files.read.clone()).collect(),
            writable_folders: in_force.files.iter().flat_map(|files| files.write.clone()).collect(),
            runs_as: runs_as(&in_force, state_dir),
            life_cycle: life_cycle(policy.is_ok().then_some(&in_force)),
            needs_approval: in_force.needs_approval.as_ref().map(ApprovalEntry::of),
            releases: ReleaseTrust::read(program_dir.or_else(own_program_dir)),
            withheld_facts: in_force.withheld_facts.iter().cloned().collect(),
            fact_files: facts::files(&state),
            limits: Limits::of(reported),
            running: report.executions,
            requests: history::read(&state, count)?,
        })
    }
}

impl ScriptEntry {
    fn of(script: &Script, state: &StateDir, account: Option<&Account>) -> Self {
        let checked = verify::startable(&state.scripts(), script, account);
        let parameters = script.parameters.declared().iter().map(|declared| ParameterEntry {
            name: declared.name.clone(),
            required: declared.required,
            secret: declared.secret,
            choices: declared.choices.clone(),
        });
        Self {
            name: script.name.clone(),
            path: script.path.clone(),
            description: script.description.clone(),
            any_parameters: script.parameters == AcceptedParameters::Any,
            parameters: parameters.collect(),
            secrets: script.secrets,
            stdin: script.stdin,
            timeout_ms: script.timeout_ms.unwrap_or(MAX_TIMEOUT_MS),
            is_pinned: script.sha256.is_some(),
            problem: checked.err().map(|refusal| refusal.to_string()),
        }
    }
}

impl ApprovalEntry {
    fn of(needed: &NeedsApproval) -> Self {
        Self {
            approvers: needed.approvers.iter().map(|key| key.fingerprint().to_string()).collect(),
            scripts: needed.scripts.as_ref().map(|names| names.iter().cloned().collect()),
            ad_hoc: needed.ad_hoc,
            life_cycle: needed.life_cycle,
        }
    }
}

impl ReleaseTrust {
    fn read(program_dir: Option<PathBuf>) -> Self {
        let Some(program_dir) = program_dir else { return Self::default() };
        let mut trust =
            Self { program_dir: Some(program_dir.display().to_string()), ..Self::default() };
        let mut line = |name: &str| match guard::read_text(&program_dir.join(name), MAX_PIN_BYTES) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                if !error.is_missing() {
                    trust.error = Some(error.to_string());
                }
                None
            }
        };
        let (key, lowest_version) = (line("release_key"), line("release_floor"));
        Self { key, lowest_version, ..trust }
    }
}

impl Limits {
    /// The limits that the last agent ran with, or the defaults.
    fn of(reported: Option<ReportedLimits>) -> Self {
        let limits = reported.unwrap_or_default();
        Self {
            max_executions: limits.max_executions,
            max_commands: command_limit(limits.max_executions),
            output_limit_bytes: limits.output_limit_bytes,
            output_quota_bytes: limits.output_quota_bytes,
            max_timeout_ms: MAX_TIMEOUT_MS,
        }
    }
}

impl Default for ReportedLimits {
    fn default() -> Self {
        Self {
            max_executions: DEFAULT_MAX_EXECUTIONS,
            output_limit_bytes: crate::config::DEFAULT_OUTPUT_LIMIT_BYTES,
            output_quota_bytes: crate::config::DEFAULT_OUTPUT_QUOTA_BYTES,
        }
    }
}

fn read_manifest(state: &StateDir) -> Result<Manifest, String> {
    let text = match guard::read_text(&state.manifest(), MAX_SCRIPT_MANIFEST_BYTES as u64) {
        Ok(text) => text,
        Err(error) if error.is_missing() => {
            return Err("script_manifest.json does not exist".into());
        }
        Err(error) => return Err(error.to_string()),
    };
    Manifest::parse(&text).map_err(|error| format!("script_manifest.json: {error}"))
}

/// The user of the policy, or the owner of the state directory, which the agent runs as.
fn runs_as(policy: &Policy, state_dir: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let own = || match std::fs::metadata(state_dir) {
        Ok(metadata) => platform::user_name(metadata.uid()),
        Err(_) => "the agent's own user".to_owned(),
    };
    policy.run_as.clone().unwrap_or_else(own)
}

/// Without a valid policy the agent accepts nothing of this.
fn life_cycle(policy: Option<&Policy>) -> Vec<LifeCycleEntry> {
    let entry = |forbidden: Forbidden| LifeCycleEntry {
        name: forbidden.as_str(),
        is_allowed: policy.is_some_and(|policy| !policy.forbid.contains(&forbidden)),
    };
    Forbidden::ALL.into_iter().map(entry).collect()
}
