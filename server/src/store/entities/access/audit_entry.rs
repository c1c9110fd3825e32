//! Table `audit_entries`: actions and their actors, each written in the transaction of the action.

use muster_protocol::audit::{AuditHash, EntryFields};
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};
use uuid::Uuid;

use crate::domain::access::principal::ActorKind;
use crate::domain::ids::{AuditId, SessionId, TenantId};
use crate::domain::time::Timestamp;

/// An action and its actor, written in the transaction of the action.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditId,
    pub tenant_id: TenantId,
    /// The link that it belongs to. The writer sets it; 0 before.
    pub link: i64,
    pub at: Timestamp,
    pub actor_kind: ActorKind,
    pub actor_id: Option<Uuid>,
    /// The session of a member.
    pub session_id: Option<SessionId>,
    pub action: String,
    pub subject_kind: String,
    pub subject_id: Option<Uuid>,
    pub detail: String,
    pub source: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The digest for the hash chain.
    pub fn digest(&self) -> AuditHash {
        let actor_kind: &'static str = self.actor_kind.into();
        EntryFields {
            tenant_id: self.tenant_id.0,
            id: self.id.0,
            at: &self.at.to_string(),
            actor_kind,
            actor_id: self.actor_id,
            session_id: self.session_id.map(|id| id.0),
            action: &self.action,
            subject_kind: &self.subject_kind,
            subject_id: self.subject_id,
            detail: &self.detail,
            source: self.source.as_deref(),
        }
        .digest()
    }
}
