//! The preflight: an `execute` that hosts would refuse is refused before it is stored.
//!
//! It checks the manifest and policy that each host reported last, with the same code as the host.
//! A connected host that seems to refuse is asked for its current ones first; for an offline host
//! the last report counts; a host without a report is not checked. The host always decides again
//! when it gets the command.

mod manifest_cache;
mod refresh;
mod refusal;
mod reported_scripts;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::commands::argv;
use muster_protocol::commands::file_transfer::{FileOperation, FileTransfer};
use muster_protocol::library::{self, LIBRARY_PREFIX, LibraryReference};
use muster_protocol::manifest::{Manifest, ManifestMismatch, Script};
use muster_protocol::package::{PACKAGE_PREFIX, PackageReference};
use muster_protocol::parameter::Parameters;
use muster_protocol::parameter::secret_parameters::SecretParameters;
use serde_json::json;
use tokio::time::Instant;

pub(in crate::services) use self::manifest_cache::ManifestCache;
use self::refresh::refresh_all;
use self::refusal::HostMismatches;
use crate::domain::fleet::reported_manifest::ManifestDigest;
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::time::Clock;
use crate::hub::{HostRules, Hub, SessionHandle};
use crate::services::error::Result;
use crate::store::Store;
use crate::store::queries::StoredRules;

/// Most different manifests that one request is checked against; other hosts are not checked.
const MAX_MANIFESTS: usize = 1_000;
/// Hosts that are queried at once.
const HOSTS_AT_ONCE: usize = 256;
/// How long one host may take to reply; a host that does not is not checked.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);
/// How long all queries of one request may take; hosts left over are not checked.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What happens to a request that some of its hosts would refuse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMismatch {
    /// The whole request is refused, and not stored.
    #[default]
    Refuse,
    /// The request is sent, and each host decides for itself.
    Send,
    /// The hosts that would refuse are skipped, for a job.
    Skip,
}

/// What an `execute` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::services) enum Executable {
    Script {
        name: String,
        parameters: Parameters,
    },
    /// A script of the library.
    Library {
        /// `library:` and its name.
        name: String,
        reference: LibraryReference,
        parameters: Parameters,
    },
    Package {
        /// `package:` and its name.
        name: String,
        reference: PackageReference,
        parameters: Parameters,
    },
    /// A transfer of a file.
    File {
        /// `file:push` or `file:pull`.
        name: String,
        file: FileTransfer,
    },
    /// Several of the others, one after the other.
    Steps {
        /// What rules about scripts decide by.
        title: String,
        steps: Vec<StepWork>,
    },
    /// A script whose parameters are not known: only whether hosts have it is checked.
    NamedScript(String),
    Argv,
}

/// One of several steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::services) struct StepWork {
    pub executable: Executable,
    /// Those that the step gets.
    pub secrets: SecretParameters,
}

impl Executable {
    /// What rules, limits and the history name it by: without a version. `None` for an ad-hoc command.
    pub fn ruled_name(&self) -> Option<&str> {
        match self {
            Self::Script { name, .. }
            | Self::Library { name, .. }
            | Self::Package { name, .. }
            | Self::File { name, .. }
            | Self::NamedScript(name)
            | Self::Steps { title: name, .. } => Some(name),
            Self::Argv => None,
        }
    }

    /// Scripts and packages of the library, by the names of both.
    fn is_of_library(&self) -> bool {
        match self {
            Self::Library { .. } | Self::Package { .. } => true,
            Self::NamedScript(name) => {
                name.starts_with(LIBRARY_PREFIX) || name.starts_with(PACKAGE_PREFIX)
            }
            Self::Script { .. } | Self::File { .. } | Self::Steps { .. } | Self::Argv => false,
        }
    }

    fn is_file(&self) -> bool {
        match self {
            Self::File { .. } => true,
            Self::NamedScript(name) => FileOperation::of(name).is_some(),
            _ => false,
        }
    }

    fn is_package(&self) -> bool {
        match self {
            Self::Package { .. } => true,
            Self::NamedScript(name) => name.starts_with(PACKAGE_PREFIX),
            Self::Library { .. }
            | Self::Script { .. }
            | Self::File { .. }
            | Self::Steps { .. }
            | Self::Argv => false,
        }
    }
}

/// The part of a request that hosts decide on.
#[derive(Clone, Copy)]
pub(in crate::services) struct PreflightRequest<'a> {
    pub executable: &'a Executable,
    pub secrets: &'a SecretParameters,
    /// It sends standard input.
    pub has_stdin: bool,
}

/// Checks requests before they are stored.
#[derive(Clone, Debug)]
pub(in crate::services) struct Preflight {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) manifests: ManifestCache,
}

/// A host that a request is for, with its last report.
pub(in crate::services) struct PreflightHost {
    agent_id: AgentId,
    /// Set if the agent is connected.
    session: Option<Arc<SessionHandle>>,
    rules: HostRules,
}

impl PreflightHost {
    pub fn connected(session: Arc<SessionHandle>) -> Self {
        Self { agent_id: session.agent_id, rules: session.rules.get(), session: Some(session) }
    }

    pub fn offline(agent_id: AgentId, rules: HostRules) -> Self {
        Self { agent_id, session: None, rules }
    }
}

impl From<StoredRules> for HostRules {
    fn from(stored: StoredRules) -> Self {
        let policy = stored.policy.map(Into::into);
        let (manifest, forbidden) = (stored.manifest, stored.forbidden);
        Self { manifest, policy, forbidden, ..Self::default() }
    }
}

/// A script as a host reports it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::services) struct ScriptEntry {
    /// The whole entry, JSON: it decides what runs.
    pub text: String,
    /// SHA-256 that the manifest requires of the file.
    pub sha256: Option<String>,
    /// As `sha256`, of each step; `None` for ad-hoc commands too.
    pub step_sha256: Vec<Option<String>>,
}

impl From<Script> for ScriptEntry {
    fn from(script: Script) -> Self {
        let text = json!(script).to_string();
        Self { text, sha256: script.sha256, step_sha256: Vec::new() }
    }
}

/// A host that would refuse, by its last report.
struct HostMismatch {
    host: PreflightHost,
    mismatch: ManifestMismatch,
}

/// Results by manifest, and by the number of the step: most hosts share one manifest.
type PreflightResults = HashMap<(usize, ManifestDigest), Option<ManifestMismatch>>;

impl Preflight {
    /// The hosts of these agents that are connected or have reported before.
    pub async fn hosts(
        &self,
        tenant_id: TenantId,
        agents: &[AgentId],
    ) -> Result<Vec<PreflightHost>> {
        let mut hosts = Vec::with_capacity(agents.len());
        let mut offline = Vec::new();
        for &agent_id in agents {
            match self.hub.session(agent_id) {
                Some(session) => hosts.push(PreflightHost::connected(session)),
                None => offline.push(agent_id),
            }
        }
        let stored = self.store.tenant(tenant_id).host_rules(&offline).await?;
        hosts.extend(
            stored.into_iter().map(|stored| PreflightHost::offline(stored.agent_id, stored.into())),
        );
        Ok(hosts)
    }

    /// Refuses a request for `target_count` agents if one of these hosts would refuse it.
    ///
    /// # Errors
    /// 422 (409 for `argv_not_allowed`) with the code that the host would return, the number of such
    /// hosts, and the names and reasons of the first ones.
    pub async fn check(
        &self,
        tenant_id: TenantId,
        hosts: Vec<PreflightHost>,
        target_count: usize,
        request: PreflightRequest<'_>,
    ) -> Result<()> {
        let mismatches = self.find(tenant_id, hosts, request, false).await?;
        if mismatches.is_empty() {
            return Ok(());
        }
        Err(self.refusal(tenant_id, mismatches, target_count, request).await?)
    }

    /// Every one of these hosts that would refuse, with the mismatch.
    pub async fn mismatches(
        &self,
        tenant_id: TenantId,
        hosts: Vec<PreflightHost>,
        request: PreflightRequest<'_>,
    ) -> Result<HashMap<AgentId, ManifestMismatch>> {
        let found = self.find(tenant_id, hosts, request, true).await?;
        Ok(found.into_all())
    }

    /// Hosts that would refuse; with `is_exhaustive` all of them, each confirmed by the host if it is
    /// connected and replies in time.
    async fn find(
        &self,
        tenant_id: TenantId,
        hosts: Vec<PreflightHost>,
        request: PreflightRequest<'_>,
        is_exhaustive: bool,
    ) -> Result<HostMismatches> {
        let mut results = PreflightResults::new();
        let mut unconfirmed = Vec::new();
        let mut mismatches = HostMismatches::new(is_exhaustive);
        for host in hosts {
            let result = self.check_host(tenant_id, &host, request, &mut results).await?;
            let Some(mismatch) = result else { continue };
            // What an agent can do never changes during a session.
            let is_certain = matches!(
                mismatch,
                ManifestMismatch::StepsUnsupported | ManifestMismatch::FilesUnsupported
            );
            match host.session {
                Some(_) if !is_certain => unconfirmed.push(HostMismatch { host, mismatch }),
                _ => mismatches.add(HostMismatch { host, mismatch }),
            }
        }
        self.confirm(tenant_id, unconfirmed, request, &mut results, &mut mismatches).await?;
        Ok(mismatches)
    }

    /// Checks connected hosts again with their current manifest and policy, until one mismatch is
    /// confirmed, or all are checked if `mismatches` must have all.
    async fn confirm(
        &self,
        tenant_id: TenantId,
        unconfirmed: Vec<HostMismatch>,
        request: PreflightRequest<'_>,
        results: &mut PreflightResults,
        mismatches: &mut HostMismatches,
    ) -> Result<()> {
        let until = Instant::now() + QUERY_TIMEOUT;
        let mut rest = unconfirmed.into_iter().peekable();
        let mut is_first = true;
        while rest.peek().is_some()
            && (is_first || mismatches.needs_more())
            && Instant::now() < until
        {
            is_first = false;
            let batch: Vec<_> = rest.by_ref().take(HOSTS_AT_ONCE).collect();
            let sessions = batch.iter().filter_map(|mismatch| mismatch.host.session.as_deref());
            let now = self.clock.now();
            let until = until.min(Instant::now() + REPLY_TIMEOUT);
            let replied = refresh_all(sessions, now, until).await;
            for (mismatch, has_replied) in batch.into_iter().zip(replied) {
                let Some(session) = mismatch.host.session.filter(|_| has_replied) else {
                    continue;
                };
                let host = PreflightHost::connected(session);
                if let Some(mismatch) = self.check_host(tenant_id, &host, request, results).await? {
                    mismatches.add(HostMismatch { host, mismatch });
                }
            }
        }
        // For the hosts left over the last report counts.
        if !mismatches.is_empty() || mismatches.is_exhaustive() {
            rest.for_each(|mismatch| mismatches.add(mismatch));
        }
        Ok(())
    }

    /// Why a host would refuse: the first step that it would. `None` if it would not, or if that is unknown.
    async fn check_host(
        &self,
        tenant_id: TenantId,
        host: &PreflightHost,
        request: PreflightRequest<'_>,
        results: &mut PreflightResults,
    ) -> Result<Option<ManifestMismatch>> {
        let Executable::Steps { steps, .. } = request.executable else {
            return self.check_one(tenant_id, host, request, (0, results)).await;
        };
        if host.session.as_ref().is_some_and(|session| !session.supports_steps) {
            return Ok(Some(ManifestMismatch::StepsUnsupported));
        }
        for (number, StepWork { executable, secrets }) in (1..).zip(steps) {
            let step = PreflightRequest { executable, secrets, has_stdin: false };
            let mismatch = self.check_one(tenant_id, host, step, (number, results)).await?;
            if let Some(mismatch) = mismatch {
                return Ok(Some(mismatch.in_step(number)));
            }
        }
        Ok(None)
    }

    async fn check_one(
        &self,
        tenant_id: TenantId,
        PreflightHost { agent_id, rules, session }: &PreflightHost,
        request: PreflightRequest<'_>,
        (number, results): (usize, &mut PreflightResults),
    ) -> Result<Option<ManifestMismatch>> {
        if request.executable.is_file() {
            // What the policy allows, the host alone decides.
            let is_too_old = session.as_ref().is_some_and(|session| !session.supports_files);
            return Ok(is_too_old.then_some(ManifestMismatch::FilesUnsupported));
        }
        if request.executable.is_of_library() {
            let policy = rules.policy.as_deref();
            let is_allowed = policy.is_none_or(|policy| library::POLICIES.contains(&policy));
            return Ok(match session {
                _ if !is_allowed => Some(ManifestMismatch::LibraryNotAllowed),
                Some(session) if request.executable.is_package() && !session.supports_packages => {
                    Some(ManifestMismatch::PackagesUnsupported)
                }
                _ if request.has_stdin => Some(ManifestMismatch::LibraryStdin),
                Some(session) if !session.supports_library => {
                    Some(ManifestMismatch::LibraryUnsupported)
                }
                _ => None,
            });
        }
        let (name, parameters) = match request.executable {
            Executable::Script { name, parameters } => (name, Some(parameters)),
            Executable::NamedScript(name) => (name, None),
            Executable::Library { .. }
            | Executable::Package { .. }
            | Executable::File { .. }
            | Executable::Steps { .. } => return Ok(None),
            Executable::Argv => {
                let policy = rules.policy.as_deref();
                let is_refused = policy.is_some_and(|policy| policy != argv::POLICY);
                return Ok(is_refused.then_some(ManifestMismatch::ArgvNotAllowed));
            }
        };
        let Some(digest) = rules.manifest else { return Ok(None) };
        if let Some(result) = results.get(&(number, digest)) {
            return Ok(result.clone());
        }
        if results.len() >= MAX_MANIFESTS * number.max(1) {
            return Ok(None);
        }
        let manifest = self.manifest(tenant_id, *agent_id, digest).await?;
        let check = |manifest: Arc<Manifest>| match parameters {
            Some(parameters) => {
                manifest.allowed_script(name, parameters, request.secrets, request.has_stdin).err()
            }
            None if manifest.script(name).is_some() => None,
            None => Some(ManifestMismatch::unknown_script(name)),
        };
        let result = manifest.and_then(check);
        results.insert((number, digest), result.clone());
        Ok(result)
    }

    async fn manifest(
        &self,
        tenant_id: TenantId,
        agent_id: AgentId,
        digest: ManifestDigest,
    ) -> Result<Option<Arc<Manifest>>> {
        if let Some(manifest) = self.manifests.get(digest) {
            return Ok(Some(manifest));
        }
        let stored = self.store.tenant(tenant_id).agent_manifest(agent_id).await?;
        // The host may have reported another manifest since the digest was read.
        let current = stored.filter(|row| ManifestDigest::of(&row.manifest) == digest);
        let manifest = current.and_then(|row| serde_json::from_str::<Manifest>(&row.manifest).ok());
        Ok(manifest.map(|manifest| self.manifests.insert(digest, manifest)))
    }
}
