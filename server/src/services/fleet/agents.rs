//! Use cases of agents: list, rename and delete them, and read their telemetry and history.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::CloseCode;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::domain::access::principal::Scope;
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::agent::{AgentCandidate, MatchedBy, NameSource};
use crate::domain::fleet::records::{
    AgentEventRecord, AgentRecord, ManifestRecord, TelemetryRecord,
};
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::AgentId;
use crate::domain::name::{MAX_NAME_CHARS, check_name, check_tags, clean};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::work_guard::{WorkGuard, require_unlimited};
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::fleet::agent;
use crate::store::queries::{AgentChange, Deletion};

/// Use cases of agents.
#[derive(Clone, Debug)]
pub struct Agents {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) guard: WorkGuard,
}

/// An agent, and whether it is connected now.
#[derive(Debug, Clone)]
pub struct AgentSnapshot {
    pub record: AgentRecord,
    pub is_connected: bool,
}

/// Longest time that a request waits for an agent to connect.
const MAX_WAIT_MS: u64 = 60_000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// Most candidates that the error for an ambiguous name lists.
const MAX_CANDIDATES: usize = 10;
const UNKNOWN: ServiceError = ServiceError::NotFound("agent");

/// Requested changes to an agent. `None` keeps the value.
#[derive(Debug, Clone, Default)]
pub struct RequestedAgentChange {
    pub name: Option<String>,
    pub tags: Option<Vec<String>>,
}

impl Agents {
    /// One page of agents, of all or of those that match an expression now.
    ///
    /// # Errors
    /// 422 for an invalid expression.
    pub async fn list(
        &self,
        caller: &Caller,
        expression: Option<String>,
        page: PageRequest,
    ) -> Result<Page<AgentSnapshot>> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = match expression {
            None => tenant.agents(page).await?,
            Some(_) => {
                let spec = TargetSpec { expression, ..TargetSpec::default() };
                let target = Target::try_from(spec)?;
                let chosen = tenant.resolve(&target, |id| self.hub.is_connected(id)).await?;
                // Oldest first, as in the list of all.
                let ids = chosen.agents.iter().map(|agent| agent.id);
                let ids = ids.filter(|id| page.after.is_none_or(|after| id.0 > after));
                let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
                let ids: Vec<_> = ids.take(limit.saturating_add(1)).collect();
                let mut rows = tenant.agents_by_id(&ids).await?;
                rows.sort_unstable_by_key(|row| row.id);
                rows
            }
        };
        Ok(Page::of(rows, page, |row| row.id.0).map(|row| self.snapshot(row)))
    }

    /// One page of the agents that are connected.
    pub async fn list_connected(
        &self,
        caller: &Caller,
        page: PageRequest,
    ) -> Result<Page<AgentSnapshot>> {
        caller.require(Scope::AgentsRead)?;
        let tenant_id = caller.principal.tenant_id;
        let sessions = self.hub.sessions();
        let mut ids: Vec<_> = sessions
            .iter()
            .filter(|session| session.tenant_id == tenant_id)
            .map(|session| session.agent_id)
            .filter(|id| page.after.is_none_or(|after| id.0 > after))
            .collect();
        ids.sort_unstable();
        ids.truncate(usize::try_from(page.limit + 1).unwrap_or(usize::MAX));
        let mut rows = self.store.tenant(tenant_id).agents_by_id(&ids).await?;
        rows.sort_unstable_by_key(|row| row.id);
        Ok(Page::of(rows, page, |row| row.id.0).map(|row| self.snapshot(row)))
    }

    /// One page of the connected agents with this name or hostname. Waits up to `wait_ms` for one
    /// to connect.
    pub async fn wait_connected(
        &self,
        caller: &Caller,
        name: &str,
        wait_ms: u64,
        page: PageRequest,
    ) -> Result<Page<AgentSnapshot>> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let mut arrivals = self.hub.subscribe_connects();
        let deadline = Instant::now() + Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
        loop {
            arrivals.mark_unchanged();
            let mut rows = tenant.online_agents_called(name, page).await?;
            rows.retain(|row| self.hub.is_connected(row.id));
            if !rows.is_empty() {
                return Ok(Page::of(rows, page, |row| row.id.0).map(|row| self.snapshot(row)));
            }
            if !matches!(timeout_at(deadline, arrivals.changed()).await, Ok(Ok(()))) {
                return Ok(Page::of(rows, page, |row| row.id.0).map(|row| self.snapshot(row)));
            }
            // When a whole fleet reconnects, the query must not run once for each agent.
            tokio::time::sleep_until(deadline.min(Instant::now() + BETWEEN_LOOKS)).await;
        }
    }

    /// One agent, with its latest telemetry.
    pub async fn get(
        &self,
        caller: &Caller,
        id: AgentId,
    ) -> Result<(AgentSnapshot, Option<TelemetryRecord>)> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = tenant.agent(id).await?.ok_or(UNKNOWN)?;
        let newest = tenant.telemetry(id, Timestamp(0), 1).await?.pop().map(TelemetryRecord::from);
        Ok((self.snapshot(row), newest))
    }

    /// The agent that a word names: an id, or a whole name or hostname.
    ///
    /// A name that a person gave wins, so that no host can take it or make it ambiguous. Names and
    /// hostnames that hosts reported are looked at together. Beginnings of names never match.
    ///
    /// # Errors
    /// `ambiguous_agent` with the candidates. `secrets_need_ids_or_tags` if the caller means to send
    /// secrets and only what a host reported matches.
    pub async fn resolve(
        &self,
        caller: &Caller,
        word: &str,
        with_secrets: bool,
    ) -> Result<(AgentSnapshot, MatchedBy)> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        if let Ok(id) = Uuid::try_parse(word) {
            let row = tenant.agent(AgentId(id)).await?.ok_or(UNKNOWN)?;
            return Ok((self.snapshot(row), MatchedBy::Id));
        }
        let limit = MAX_CANDIDATES as u64 + 1;
        let given = tenant.agents_with_given_name(word, limit).await?;
        let (mut rows, is_given) = match given.is_empty() {
            false => (given, true),
            true => (tenant.agents_called(word, limit).await?, false),
        };
        if rows.len() > 1 {
            return Err(ambiguous(word, rows));
        }
        let row = rows.pop().ok_or(UNKNOWN)?;
        let matched_by = match is_given {
            true => MatchedBy::GivenName,
            false if row.name == word && row.name_source == NameSource::Reported => {
                MatchedBy::ReportedName
            }
            false => MatchedBy::Hostname,
        };
        if with_secrets && !matched_by.is_trusted() {
            return Err(untrusted_for_secrets(word, row.id));
        }
        Ok((self.snapshot(row), matched_by))
    }

    /// Renames or tags an agent. Names and tags decide what reaches an agent, so a key with limits changes
    /// neither.
    ///
    /// # Errors
    /// 403 `key_has_limits`; 403 `tags_are_guarded` without `approvals:manage`, if the agent would enter or
    /// leave the target of a rule of approval or of an API key.
    pub async fn update(
        &self,
        caller: &Caller,
        id: AgentId,
        change: RequestedAgentChange,
    ) -> Result<AgentSnapshot> {
        caller.require(Scope::AgentsWrite)?;
        if let Some(name) = &change.name {
            check_name(name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
        }
        if let Some(tags) = &change.tags {
            check_tags(tags).map_err(|problem| ServiceError::invalid_field("tags", problem))?;
        }
        self.guard.check_limits(caller, WorkKind::AgentChange, &[id]).await?;
        require_unlimited(caller, "names and tags decide what reaches an agent")?;
        let RequestedAgentChange { name, tags } = change;
        let may_change_targets = caller.principal.may(Scope::ApprovalsManage);
        let change = AgentChange { name, tags, may_change_targets };
        let detail = json!({"name": change.name, "tags": change.tags});
        let audit = caller.audit("agent.update", subject(id), &detail, self.clock.now());
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = tenant.update_agent(id, change, audit).await?.ok_or(UNKNOWN)?;
        Ok(self.snapshot(row))
    }

    /// Deletes an agent. If it is still running, it may enrol again as a new agent.
    pub async fn delete(&self, caller: &Caller, id: AgentId) -> Result<()> {
        caller.require(Scope::AgentsWrite)?;
        self.guard.check_limits(caller, WorkKind::AgentChange, &[id]).await?;
        let now = self.clock.now();
        let audit = caller.audit("agent.delete", subject(id), &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let deleted = tenant.delete_agent(id, Deletion::Operator, now, audit).await?;
        let ended = deleted.ok_or(UNKNOWN)?;
        self.cache.forget_agent(id);
        for command_id in ended {
            self.hub.notify_maybe_ended(command_id);
        }
        if let Some(session) = self.hub.session(id) {
            session.close(CloseCode::GoingAway);
        }
        Ok(())
    }

    /// The manifest that an agent last reported; `None` if it never reported one.
    pub async fn manifest(&self, caller: &Caller, id: AgentId) -> Result<Option<ManifestRecord>> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        tenant.agent(id).await?.ok_or(UNKNOWN)?;
        Ok(tenant.agent_manifest(id).await?.map(ManifestRecord::from))
    }

    /// An agent's telemetry since an instant, oldest first.
    pub async fn telemetry(
        &self,
        caller: &Caller,
        id: AgentId,
        since: Timestamp,
        limit: u64,
    ) -> Result<Vec<TelemetryRecord>> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        tenant.agent(id).await?.ok_or(UNKNOWN)?;
        let rows = tenant.telemetry(id, since, limit).await?;
        Ok(rows.into_iter().map(TelemetryRecord::from).collect())
    }

    /// One page of an agent's events, newest first.
    pub async fn events(
        &self,
        caller: &Caller,
        id: AgentId,
        page: PageRequest,
    ) -> Result<Page<AgentEventRecord>> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        tenant.agent(id).await?.ok_or(UNKNOWN)?;
        let rows = tenant.agent_events(id, page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(AgentEventRecord::from))
    }

    fn snapshot(&self, row: agent::Model) -> AgentSnapshot {
        AgentSnapshot { is_connected: self.hub.is_connected(row.id), record: row.into() }
    }
}

fn ambiguous(word: &str, rows: Vec<agent::Model>) -> ServiceError {
    let count = match rows.len() {
        count if count > MAX_CANDIDATES => format!("more than {MAX_CANDIDATES}"),
        count => count.to_string(),
    };
    let candidates = rows.into_iter().take(MAX_CANDIDATES).map(|row| AgentCandidate {
        id: row.id,
        name: row.name,
        name_source: row.name_source,
        hostname: row.hostname,
    });
    ServiceError::AmbiguousAgent {
        detail: format!(
            "`{}` is the name or hostname of {count} agents; use an id, or give one of them another name",
            clean(word, MAX_NAME_CHARS)
        ),
        candidates: candidates.collect(),
    }
}

fn untrusted_for_secrets(word: &str, id: AgentId) -> ServiceError {
    ServiceError::Invalid {
        code: "secrets_need_ids_or_tags",
        detail: format!(
            "only a host reported the name `{}`, and any host can report it; to send secrets, use the \
             id {id}, a tag, or a name that a person gave",
            clean(word, MAX_NAME_CHARS)
        ),
    }
}

fn subject(id: AgentId) -> Subject {
    Subject { kind: "agent", id: id.0 }
}
