//! Table `agents`: one agent for each host.

use muster_protocol::identity::{AgentPublicKey, Fingerprint};
use muster_protocol::release::{UpdateOutcome, UpdateResult};
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};
use serde_json::json;
use uuid::Uuid;

use crate::domain::fleet::agent::{AgentLevel, NameSource, Transport};
use crate::domain::fleet::records::AgentRecord;
use crate::domain::ids::{AgentId, AgentKeyId, TenantId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::time::Timestamp;
use crate::store::entities::column::StringList;

/// The agent of one host.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agents")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AgentId,
    pub tenant_id: TenantId,
    pub key_id: AgentKeyId,
    pub level: AgentLevel,
    pub identity: String,
    /// The public key of a full agent, 32 bytes. The agent proves that it has the private one.
    pub public_key: Option<Vec<u8>>,
    /// SHA-256 of the public key that a person accepts as the agent's next one.
    pub next_fingerprint: Option<Vec<u8>>,
    pub name: String,
    pub name_source: NameSource,
    pub hostname: String,
    pub ip: String,
    pub version: String,
    pub os: String,
    pub arch: String,
    /// What starts the agent on its host; empty if it did not report it.
    pub service_manager: String,
    pub capabilities: StringList,
    pub tags: StringList,
    pub policy: Option<String>,
    pub max_executions: i32,
    pub ledger_id: Option<Uuid>,
    pub instance_id: Option<Uuid>,
    pub previous_instance_id: Option<Uuid>,
    pub epoch: i64,
    pub transport: Transport,
    pub is_online: bool,
    pub alert: Option<String>,
    /// A sentence about the alert: what happened, and what to do.
    pub alert_detail: Option<String>,
    pub connected_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub created_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// The result of the latest update, JSON.
    pub update_result: Option<String>,
    /// When that result was reported.
    pub update_result_at: Option<Timestamp>,
    /// The last notice about the server's authority that the agent has stored.
    pub notice_id: Option<Uuid>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AgentRecord {
    fn from(row: Model) -> Self {
        let (public_key, next_fingerprint) = (row.public_key(), row.next_fingerprint());
        Self {
            id: row.id,
            key_id: row.key_id,
            level: row.level,
            name: row.name,
            name_source: row.name_source,
            hostname: row.hostname,
            ip: row.ip,
            version: row.version,
            os: row.os,
            arch: row.arch,
            service_manager: row.service_manager,
            capabilities: row.capabilities.0,
            tags: row.tags.0,
            public_key,
            next_fingerprint,
            policy: row.policy,
            max_executions: row.max_executions,
            transport: row.transport,
            alert: row.alert,
            connected_at: row.connected_at,
            last_seen_at: row.last_seen_at,
            created_at: row.created_at,
            alert_detail: row.alert_detail,
            update_result: row.update_result,
            update_result_at: row.update_result_at,
        }
    }
}

impl Model {
    /// The public key of a full agent.
    pub fn public_key(&self) -> Option<AgentPublicKey> {
        let bytes: &[u8] = self.public_key.as_deref()?;
        bytes.try_into().ok().map(AgentPublicKey::from_bytes)
    }

    /// The fingerprint that a person accepted as the agent's next one.
    pub fn next_fingerprint(&self) -> Option<Fingerprint> {
        let bytes: &[u8] = self.next_fingerprint.as_deref()?;
        bytes.try_into().ok().map(Fingerprint::from_bytes)
    }
}

/// What integrations hear of an update result, as it is stored; `None` unless the host rolled back.
pub fn rolled_back_event(
    tenant_id: TenantId,
    id: AgentId,
    stored: &str,
    at: Timestamp,
) -> Option<IntegrationEvent> {
    let result: UpdateResult = serde_json::from_str(stored).ok()?;
    (result.outcome == UpdateOutcome::RolledBack).then(|| IntegrationEvent {
        tenant_id,
        event: EventType::UpdateRolledBack,
        at,
        subject_id: id.0,
        agent_id: Some(id),
        job_id: None,
        data: json!({"from_version": result.from_version, "to_version": result.to_version,
            "code": result.code, "message": result.message}),
    })
}
