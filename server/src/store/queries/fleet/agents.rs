//! Agents of a tenant.

use std::collections::HashMap;

use muster_protocol::identity::{AgentPublicKey, Fingerprint};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, EntityTrait as _, ExprTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::tag_grants::check_keeps_targets;
use crate::domain::fleet::agent::{KEY_PAIR_CHANGED, NAME_CONFLICT, NameSource};
use crate::domain::ids::{AgentId, AgentKeyId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::column::StringList;
use crate::store::entities::fleet::{agent, agent_event, agent_manifest};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// Changes to an agent. `None` keeps the value.
#[derive(Debug, Clone, Default)]
pub struct AgentChange {
    pub name: Option<String>,
    pub tags: Option<Vec<String>>,
    /// False refuses tags with which the agent enters or leaves the target of a rule of approval or of
    /// an API key, or a step of the ladder.
    pub may_change_targets: bool,
}

impl TenantScope {
    /// One page of agents, oldest first, with one row more than the limit if there is one.
    pub async fn agents(&self, page: PageRequest) -> Result<Vec<agent::Model>, StoreError> {
        let mut query = agent::Entity::find()
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::DeletedAt.is_null())
            .order_by_asc(agent::Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(agent::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// Agents by id.
    pub async fn agents_by_id(&self, ids: &[AgentId]) -> Result<Vec<agent::Model>, StoreError> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in ids.chunks(500) {
            let query = agent::Entity::find()
                .filter(agent::Column::Id.is_in(ids.iter().copied()))
                .filter(agent::Column::TenantId.eq(self.tenant_id))
                .filter(agent::Column::DeletedAt.is_null());
            rows.extend(query.all(&self.reader).await?);
        }
        Ok(rows)
    }

    /// Names of at most 500 agents, including deleted ones.
    pub async fn agent_names(
        &self,
        ids: Vec<AgentId>,
    ) -> Result<HashMap<AgentId, String>, StoreError> {
        let rows: Vec<(AgentId, String)> = agent::Entity::find()
            .select_only()
            .columns([agent::Column::Id, agent::Column::Name])
            .filter(agent::Column::Id.is_in(ids))
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(rows.into_iter().collect())
    }

    /// The fingerprints of these agents' key pairs. Agents without a key pair are missing.
    pub async fn agent_fingerprints(
        &self,
        ids: Vec<AgentId>,
    ) -> Result<HashMap<AgentId, Fingerprint>, StoreError> {
        let rows: Vec<(AgentId, Option<Vec<u8>>)> = agent::Entity::find()
            .select_only()
            .columns([agent::Column::Id, agent::Column::PublicKey])
            .filter(agent::Column::Id.is_in(ids))
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let fingerprint = |(id, key): (AgentId, Option<Vec<u8>>)| {
            let key: [u8; 32] = key?.try_into().ok()?;
            Some((id, AgentPublicKey::from_bytes(key).fingerprint()))
        };
        Ok(rows.into_iter().filter_map(fingerprint).collect())
    }

    /// One page of the agents with this name or hostname that have a session, according to the
    /// database.
    pub async fn online_agents_called(
        &self,
        name: &str,
        page: PageRequest,
    ) -> Result<Vec<agent::Model>, StoreError> {
        let named = agent::Column::Name.eq(name).or(agent::Column::Hostname.eq(name));
        let mut query = agent::Entity::find()
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::DeletedAt.is_null())
            .filter(agent::Column::IsOnline.eq(true))
            .filter(named);
        if let Some(after) = page.after {
            query = query.filter(agent::Column::Id.gt(after));
        }
        let query = query.order_by_asc(agent::Column::Id).limit(page.limit + 1);
        Ok(query.all(&self.reader).await?)
    }

    /// Agents to which a person gave this name, at most `limit`.
    pub async fn agents_with_given_name(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Vec<agent::Model>, StoreError> {
        let named = agent::Column::Name.eq(name);
        let filter = named.and(agent::Column::NameSource.eq(NameSource::Given));
        self.agents_where(filter, limit).await
    }

    /// Agents with this name or hostname, at most `limit`.
    pub async fn agents_called(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Vec<agent::Model>, StoreError> {
        let named = agent::Column::Name.eq(name).or(agent::Column::Hostname.eq(name));
        self.agents_where(named, limit).await
    }

    async fn agents_where(
        &self,
        filter: Expr,
        limit: u64,
    ) -> Result<Vec<agent::Model>, StoreError> {
        let query = agent::Entity::find()
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::DeletedAt.is_null())
            .filter(filter)
            .order_by_asc(agent::Column::Id)
            .limit(limit);
        Ok(query.all(&self.reader).await?)
    }

    /// One agent.
    pub async fn agent(&self, id: AgentId) -> Result<Option<agent::Model>, StoreError> {
        Ok(self.agents_by_id(&[id]).await?.pop())
    }

    /// The agents of a key, at most two: enough to know whether there is exactly one.
    pub async fn up_to_two_agents_of_key(
        &self,
        key_id: AgentKeyId,
    ) -> Result<Vec<agent::Model>, StoreError> {
        let query = agent::Entity::find()
            .filter(agent::Column::KeyId.eq(key_id))
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::DeletedAt.is_null())
            .limit(2);
        Ok(query.all(&self.reader).await?)
    }

    /// Changes an agent; `None` if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::TargetChanged`] unless the change may do that.
    pub async fn update_agent(
        &self,
        id: AgentId,
        change: AgentChange,
        audit: audit_entry::Model,
    ) -> Result<Option<agent::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (change, audit) = (change.clone(), audit.clone());
                Box::pin(async move {
                    let query = agent::Entity::find_by_id(id)
                        .filter(agent::Column::TenantId.eq(tenant_id))
                        .filter(agent::Column::DeletedAt.is_null());
                    let Some(row) = query.one(transaction).await? else { return Ok(None) };
                    if let Some(tags) = change.tags.as_ref().filter(|_| !change.may_change_targets)
                    {
                        check_keeps_targets(transaction, &row, tags).await?;
                    }
                    let mut row = row.into_active_model();
                    if let Some(name) = change.name {
                        row.name = Set(name);
                        row.name_source = Set(NameSource::Given);
                        let alert = row.alert.as_ref().as_deref();
                        if matches!(alert, Some(NAME_CONFLICT | KEY_PAIR_CHANGED)) {
                            row.alert = Set(None);
                            row.alert_detail = Set(None);
                        }
                    }
                    if let Some(tags) = change.tags {
                        row.tags = Set(StringList(tags));
                    }
                    let row = row.update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Stores the result of an agent's latest update, JSON, if its session still has this epoch.
    pub async fn record_update_result(
        &self,
        id: AgentId,
        epoch: i64,
        result: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let result = result.clone();
                Box::pin(async move {
                    agent::Entity::update_many()
                        .col_expr(agent::Column::UpdateResult, Expr::value(result.clone()))
                        .col_expr(agent::Column::UpdateResultAt, Expr::value(now))
                        .filter(agent::Column::Id.eq(id))
                        .filter(agent::Column::TenantId.eq(tenant_id))
                        .filter(agent::Column::Epoch.eq(epoch))
                        .filter(
                            agent::Column::UpdateResult
                                .is_null()
                                .or(agent::Column::UpdateResult.ne(result)),
                        )
                        .exec(transaction)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// The manifest that an agent last reported.
    pub async fn agent_manifest(
        &self,
        id: AgentId,
    ) -> Result<Option<agent_manifest::Model>, StoreError> {
        if self.agent(id).await?.is_none() {
            return Ok(None);
        }
        Ok(agent_manifest::Entity::find_by_id(id).one(&self.reader).await?)
    }

    /// One page of an agent's events, newest first, with one row more than the limit.
    pub async fn agent_events(
        &self,
        id: AgentId,
        page: PageRequest,
    ) -> Result<Vec<agent_event::Model>, StoreError> {
        let mut query = agent_event::Entity::find()
            .filter(agent_event::Column::AgentId.eq(id))
            .filter(agent_event::Column::TenantId.eq(self.tenant_id))
            .order_by_desc(agent_event::Column::Id)
            .limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(agent_event::Column::Id.lt(before));
        }
        Ok(query.all(&self.reader).await?)
    }
}
