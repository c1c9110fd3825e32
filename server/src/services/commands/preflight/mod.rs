//! What hosts would refuse, refused before anything is stored: an `execute` is held against the
//! rules that each host told last, by the very rule that the host goes by.
//!
//! The host has the last word, so nothing is promised here. A connected host whose rules are against
//! the request is asked for them as they stand now; of one that is away its last word counts; one
//! that never said anything decides when it is sent the command.

mod host_query;
mod manifest_cache;
mod refusal;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::argv;
use muster_protocol::manifest::Manifest;
use muster_protocol::manifest_mismatch::ManifestMismatch;
use muster_protocol::parameter::Parameters;
use muster_protocol::secret_parameters::SecretParameters;
use tokio::time::Instant;

pub(in crate::services) use self::manifest_cache::ManifestCache;
use self::refusal::Refused;
use crate::domain::fleet::manifest_digest::ManifestDigest;
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::time::Clock;
use crate::hub::{HostRules, Hub, SessionHandle};
use crate::services::error::Result;
use crate::store::Store;
use crate::store::queries::StoredRules;

/// Different lists that one request is held against; hosts of more judge for themselves.
const MAX_LISTS: usize = 1_000;
/// Hosts that are asked again at once.
const ASKED_AT_ONCE: usize = 256;
/// How long one host may take to answer; one that does not will judge for itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long all that are asked for one request may take; the others will judge for themselves.
const ASK_FOR: Duration = Duration::from_secs(10);

/// What becomes of a request that some of its hosts would refuse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMismatch {
    /// It is refused as a whole; nothing is stored.
    #[default]
    Refuse,
    /// It is sent, and each host judges for itself.
    Send,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::services) enum Work {
    Script { name: String, parameters: Parameters },
    Argv,
}

/// A request as far as hosts judge it.
#[derive(Clone, Copy)]
pub(in crate::services) struct Asked<'a> {
    pub work: &'a Work,
    pub secrets: &'a SecretParameters,
}

/// Looks at requests before they are stored.
#[derive(Clone, Debug)]
pub(in crate::services) struct Preflight {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) lists: ManifestCache,
}

/// A host that a request is for, and what it said that it lets the server ask for.
pub(in crate::services) struct Host {
    agent_id: AgentId,
    /// Of a host that can be asked.
    session: Option<Arc<SessionHandle>>,
    rules: HostRules,
}

impl Host {
    pub fn connected(session: Arc<SessionHandle>) -> Self {
        Self { agent_id: session.agent_id, rules: session.rules.get(), session: Some(session) }
    }

    pub fn away(agent_id: AgentId, rules: HostRules) -> Self {
        Self { agent_id, session: None, rules }
    }
}

impl From<StoredRules> for HostRules {
    fn from(stored: StoredRules) -> Self {
        let policy = stored.policy.map(Into::into);
        Self { manifest: stored.manifest, policy, ..Self::default() }
    }
}

/// A host that would refuse, as far as its rules are known.
struct Mismatch {
    host: Host,
    mismatch: ManifestMismatch,
}

/// PreflightResults by list: most hosts share one.
type PreflightResults = HashMap<ManifestDigest, Option<ManifestMismatch>>;

impl Preflight {
    /// The hosts of these agents that have told their rules, or can still.
    pub async fn hosts(&self, tenant_id: TenantId, agents: &[AgentId]) -> Result<Vec<Host>> {
        let mut hosts = Vec::with_capacity(agents.len());
        let mut away = Vec::new();
        for &agent_id in agents {
            match self.hub.session(agent_id) {
                Some(session) => hosts.push(Host::connected(session)),
                None => away.push(agent_id),
            }
        }
        let stored = self.store.tenant(tenant_id).host_rules(&away).await?;
        hosts.extend(stored.into_iter().map(|stored| Host::away(stored.agent_id, stored.into())));
        Ok(hosts)
    }

    /// Refuses a request for `meant` agents that one of these hosts would refuse.
    ///
    /// # Errors
    /// 422 (409 `argv_not_allowed`) with the code that the host would give, how many hosts it is, the
    /// first of them, and why.
    pub async fn check(
        &self,
        tenant_id: TenantId,
        hosts: Vec<Host>,
        meant: usize,
        asked: Asked<'_>,
    ) -> Result<()> {
        let mut verdicts = PreflightResults::new();
        let mut doubtful = Vec::new();
        let mut refused = Refused::default();
        for host in hosts {
            let verdict = self.judge(tenant_id, &host, asked, &mut verdicts).await?;
            let Some(mismatch) = verdict else { continue };
            match host.session {
                Some(_) => doubtful.push(Mismatch { host, mismatch }),
                None => refused.add(Mismatch { host, mismatch }),
            }
        }
        self.ask_again(tenant_id, doubtful, asked, &mut verdicts, &mut refused).await?;
        if refused.is_empty() {
            return Ok(());
        }
        Err(self.refusal(tenant_id, refused, meant, asked).await?)
    }

    /// Asks those that seem to refuse for their rules as they stand now, until one is sure to refuse.
    async fn ask_again(
        &self,
        tenant_id: TenantId,
        doubtful: Vec<Mismatch>,
        asked: Asked<'_>,
        verdicts: &mut PreflightResults,
        refused: &mut Refused,
    ) -> Result<()> {
        let until = Instant::now() + ASK_FOR;
        let mut rest = doubtful.into_iter().peekable();
        let mut is_first = true;
        while rest.peek().is_some() && (is_first || refused.is_empty()) && Instant::now() < until {
            is_first = false;
            let turn: Vec<_> = rest.by_ref().take(ASKED_AT_ONCE).collect();
            let sessions = turn.iter().filter_map(|mismatch| mismatch.host.session.as_deref());
            let now = self.clock.now();
            let until = until.min(Instant::now() + ANSWER_WITHIN);
            let answered = host_query::ask_all(sessions, now, until).await;
            for (mismatch, has_answered) in turn.into_iter().zip(answered) {
                let Some(session) = mismatch.host.session.filter(|_| has_answered) else {
                    continue;
                };
                let host = Host::connected(session);
                if let Some(mismatch) = self.judge(tenant_id, &host, asked, verdicts).await? {
                    refused.add(Mismatch { host, mismatch });
                }
            }
        }
        // What holds for the others is what they told before.
        if !refused.is_empty() {
            rest.for_each(|mismatch| refused.add(mismatch));
        }
        Ok(())
    }

    /// Why a host would refuse; `None` if it would not, or if that can't be known.
    async fn judge(
        &self,
        tenant_id: TenantId,
        Host { agent_id, rules, .. }: &Host,
        asked: Asked<'_>,
        verdicts: &mut PreflightResults,
    ) -> Result<Option<ManifestMismatch>> {
        let Work::Script { name, parameters } = asked.work else {
            let is_against = rules.policy.as_deref().is_some_and(|policy| policy != argv::POLICY);
            return Ok(is_against.then_some(ManifestMismatch::ArgvNotAllowed));
        };
        let Some(digest) = rules.manifest else { return Ok(None) };
        if let Some(verdict) = verdicts.get(&digest) {
            return Ok(verdict.clone());
        }
        if verdicts.len() >= MAX_LISTS {
            return Ok(None);
        }
        let list = self.list(tenant_id, *agent_id, digest).await?;
        let mismatch =
            |list: Arc<Manifest>| list.allowed_script(name, parameters, asked.secrets).err();
        let verdict = list.and_then(mismatch);
        verdicts.insert(digest, verdict.clone());
        Ok(verdict)
    }

    async fn list(
        &self,
        tenant_id: TenantId,
        agent_id: AgentId,
        digest: ManifestDigest,
    ) -> Result<Option<Arc<Manifest>>> {
        if let Some(list) = self.lists.get(digest) {
            return Ok(Some(list));
        }
        let stored = self.store.tenant(tenant_id).agent_manifest(agent_id).await?;
        // What is stored by now may be another one than the digest was read of.
        let read = stored.and_then(|row| {
            let list = serde_json::from_str(&row.manifest).ok()?;
            (self.lists.keep(&row.manifest, list) == digest).then_some(())
        });
        Ok(read.and_then(|()| self.lists.get(digest)))
    }
}
