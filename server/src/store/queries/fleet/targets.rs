//! Resolves targets to agents.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait as _, DerivePartialModel, EntityTrait as _, QueryFilter as _};
use sea_orm::{QueryOrder as _, Select};
use tokio::task::yield_now;

use crate::domain::fleet::agent::AgentLevel;
use crate::domain::fleet::target::facts::{FactNames, Facts, HostFacts};
use crate::domain::fleet::target::{Chosen, Target};
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::column::StringList;
use crate::store::entities::fleet::agent;
use crate::store::queries::TenantScope;

/// Ids in one statement.
const IDS_AT_ONCE: usize = 500;
/// Agents that are tested before other tasks run. Some patterns take milliseconds for agents with
/// adversarial names.
const CONSIDERED_AT_ONCE: usize = 8;

/// The columns that a target can use.
#[derive(Debug, DerivePartialModel)]
#[sea_orm(entity = "agent::Entity")]
struct KnownAgent {
    id: AgentId,
    name: String,
    hostname: String,
    os: String,
    arch: String,
    service_manager: String,
    version: String,
    level: AgentLevel,
    tags: StringList,
    connected_at: Timestamp,
}

impl TenantScope {
    /// Every agent, oldest first, and when its current or last session started. `is_online` as in
    /// [`resolve`](Self::resolve). `names`: the facts that the targets name for which this is.
    pub async fn all_agents(
        &self,
        names: &FactNames,
        is_online: impl Fn(AgentId) -> bool,
    ) -> Result<Vec<(Facts, Timestamp)>, StoreError> {
        let rows = self.all_known().await?;
        let mut host = self.host_facts(names, None).await?;
        let known = |row: KnownAgent| {
            let connected_at = row.connected_at;
            let host = host.remove(&row.id).unwrap_or_default();
            (row.into_facts(&is_online, host), connected_at)
        };
        Ok(rows.into_iter().map(known).collect())
    }

    /// These agents, oldest first, to compare them with targets. Other parameters as in
    /// [`all_agents`](Self::all_agents).
    pub async fn known_agents(
        &self,
        ids: impl IntoIterator<Item = AgentId>,
        names: &FactNames,
        is_online: impl Fn(AgentId) -> bool,
    ) -> Result<Vec<Facts>, StoreError> {
        let ids: BTreeSet<AgentId> = ids.into_iter().collect();
        let ids: Vec<AgentId> = ids.into_iter().collect();
        let mut host = self.host_facts(names, Some(&ids)).await?;
        let rows = self.known_by_id(ids).await?;
        let known = |row: KnownAgent| {
            let host = host.remove(&row.id).unwrap_or_default();
            row.into_facts(&is_online, host)
        };
        Ok(rows.into_iter().map(known).collect())
    }

    /// The agents that a target matches now, oldest first. `is_online` reports who is connected,
    /// which the database does not know.
    pub async fn resolve(
        &self,
        target: &Target,
        is_online: impl Fn(AgentId) -> bool,
    ) -> Result<Chosen, StoreError> {
        let rows = match target {
            Target::Ids(ids) => self.known_by_id(ids.iter().copied().collect()).await?,
            Target::Tags(_) | Target::Expression(_) => self.all_known().await?,
        };
        let names = target.fact_names();
        let mut chosen = Chosen::by(target);
        let mut rows = rows.into_iter();
        // The facts of some agents at a time: those of all can be large.
        loop {
            let some: Vec<KnownAgent> = rows.by_ref().take(IDS_AT_ONCE).collect();
            if some.is_empty() {
                return Ok(chosen);
            }
            let ids: Vec<AgentId> = some.iter().map(|row| row.id).collect();
            let mut host = self.host_facts(&names, Some(&ids)).await?;
            for (index, row) in some.into_iter().enumerate() {
                if index % CONSIDERED_AT_ONCE == 0 {
                    yield_now().await;
                }
                let host = host.remove(&row.id).unwrap_or_default();
                chosen.consider(target, row.into_facts(&is_online, host));
            }
        }
    }

    async fn all_known(&self) -> Result<Vec<KnownAgent>, StoreError> {
        Ok(self.known().into_partial_model().all(&self.reader).await?)
    }

    async fn known_by_id(&self, ids: Vec<AgentId>) -> Result<Vec<KnownAgent>, StoreError> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS_AT_ONCE) {
            let query = self.known().filter(agent::Column::Id.is_in(ids.iter().copied()));
            rows.extend(query.into_partial_model().all(&self.reader).await?);
        }
        Ok(rows)
    }

    fn known(&self) -> Select<agent::Entity> {
        agent::Entity::find()
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::DeletedAt.is_null())
            .order_by_asc(agent::Column::Id)
    }
}

impl KnownAgent {
    fn into_facts(self, is_online: impl Fn(AgentId) -> bool, host: HostFacts) -> Facts {
        Facts {
            is_online: is_online(self.id),
            id: self.id,
            name: self.name,
            hostname: self.hostname,
            os: self.os,
            arch: self.arch,
            service_manager: self.service_manager,
            version: self.version,
            level: self.level,
            tags: self.tags.0,
            host,
        }
    }
}
