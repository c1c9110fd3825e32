//! Adoption: a person accepts another key pair as an agent's own.

use muster_protocol::identity::{AgentPublicKey, Fingerprint};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QuerySelect as _,
};

use crate::domain::fleet::agent::{AgentEventKind, KEY_PAIR_CHANGED};
use crate::domain::ids::{AgentId, AgentKeyId, CommandId, EventId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::fleet::{agent, agent_event};
use crate::store::queries::TenantScope;
use crate::store::queries::fleet::agent_deletion::retire;
use crate::store::requester::write_audit;

/// What a person accepts.
#[derive(Debug, Clone, Copy)]
pub struct Adoption {
    /// The agent that gets the key pair.
    pub id: AgentId,
    pub fingerprint: Fingerprint,
    /// The agent that has it now, if its host was enrolled as a new one; it is deleted.
    pub successor: Option<AgentId>,
    pub now: Timestamp,
}

/// What came of an adoption.
#[derive(Debug, Clone)]
pub enum Adopted {
    /// The agent has the key pair. Commands of the deleted agent have ended.
    Done { row: Box<agent::Model>, ended: Vec<CommandId> },
    /// The agent does not exist, or is no full agent.
    UnknownAgent,
    /// The agent is online with its own key pair.
    Online,
    /// The successor is gone, or has another key pair now.
    SuccessorChanged,
}

impl TenantScope {
    /// Agents that have a key pair, with their public keys.
    pub async fn agent_public_keys(&self) -> Result<Vec<(AgentId, AgentPublicKey)>, StoreError> {
        let rows: Vec<(AgentId, Vec<u8>)> = agent::Entity::find()
            .select_only()
            .columns([agent::Column::Id, agent::Column::PublicKey])
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::PublicKey.is_not_null())
            .filter(agent::Column::DeletedAt.is_null())
            .into_tuple()
            .all(&self.reader)
            .await?;
        let keys = rows.into_iter().filter_map(|(id, bytes)| {
            Some((id, AgentPublicKey::from_bytes(bytes.try_into().ok()?)))
        });
        Ok(keys.collect())
    }

    /// True if an agent of this key has the key pair, or a person accepted it as an agent's next.
    pub async fn is_key_pair_of_agent(
        &self,
        key_id: AgentKeyId,
        public_key: AgentPublicKey,
    ) -> Result<bool, StoreError> {
        let fingerprint = public_key.fingerprint().as_bytes().to_vec();
        let is_theirs = Condition::any()
            .add(agent::Column::PublicKey.eq(public_key.as_bytes().to_vec()))
            .add(agent::Column::NextFingerprint.eq(fingerprint));
        let found: Option<AgentId> = agent::Entity::find()
            .select_only()
            .column(agent::Column::Id)
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::KeyId.eq(key_id))
            .filter(is_theirs)
            .filter(agent::Column::DeletedAt.is_null())
            .into_tuple()
            .one(&self.reader)
            .await?;
        Ok(found.is_some())
    }

    /// Gives an agent another key pair. If no agent has it yet, the next host that proves it with the
    /// same agent key becomes this agent.
    pub async fn adopt_agent(
        &self,
        adoption: Adoption,
        audit: audit_entry::Model,
    ) -> Result<Adopted, StoreError> {
        let tenant_id = self.tenant_id;
        let adopted = self
            .writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move { adopt(transaction, tenant_id, adoption, audit).await })
            })
            .await?;
        let (adopted, ended) = adopted;
        for (state, count) in ended {
            self.writer.metrics().ended(state, count);
        }
        Ok(adopted)
    }
}

type EndedCounts = Vec<(&'static str, u64)>;

async fn adopt(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    adoption: Adoption,
    audit: audit_entry::Model,
) -> Result<(Adopted, EndedCounts), StoreError> {
    let find = async |id: AgentId| {
        agent::Entity::find_by_id(id)
            .filter(agent::Column::TenantId.eq(tenant_id))
            .filter(agent::Column::DeletedAt.is_null())
            .filter(agent::Column::PublicKey.is_not_null())
            .one(transaction)
            .await
    };
    let Some(former) = find(adoption.id).await? else {
        return Ok((Adopted::UnknownAgent, Vec::new()));
    };
    if former.is_online {
        return Ok((Adopted::Online, Vec::new()));
    }
    let mut row = former.into_active_model();
    let mut ended = Vec::new();
    if let Some(successor) = adoption.successor {
        let is_same = |row: &agent::Model| {
            row.public_key().map(|key| key.fingerprint()) == Some(adoption.fingerprint)
        };
        let Some(successor) = find(successor).await?.filter(is_same) else {
            return Ok((Adopted::SuccessorChanged, Vec::new()));
        };
        ended = retire(transaction, successor.id, adoption.now).await?;
        row.public_key = Set(successor.public_key);
        row.key_id = Set(successor.key_id);
        row.identity = Set(successor.identity);
        row.next_fingerprint = Set(None);
    } else {
        row.next_fingerprint = Set(Some(adoption.fingerprint.as_bytes().to_vec()));
    }
    if row.alert.as_ref().as_deref() == Some(KEY_PAIR_CHANGED) {
        row.alert = Set(None);
        row.alert_detail = Set(None);
    }
    let row = row.update(transaction).await?;
    let event = agent_event::Model {
        id: EventId::new(),
        tenant_id,
        agent_id: row.id,
        kind: AgentEventKind::Adopted,
        detail: Some(adoption.fingerprint.to_string()),
        at: adoption.now,
    };
    agent_event::Entity::insert(event.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    write_audit(transaction, audit).await?;
    let counts = ended.iter().map(|(state, ids)| (state.as_str(), ids.len() as u64)).collect();
    let ended = ended.into_iter().flat_map(|(_, ids)| ids).collect();
    Ok((Adopted::Done { row: Box::new(row), ended }, counts))
}
