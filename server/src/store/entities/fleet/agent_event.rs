//! Table `agent_events`: changes of an agent's state, one row for each.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::fleet::agent::AgentEventKind;
use crate::domain::fleet::records::AgentEventRecord;
use crate::domain::ids::{AgentId, EventId, TenantId};
use crate::domain::time::Timestamp;

/// A change of an agent's state.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EventId,
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub kind: AgentEventKind,
    pub detail: Option<String>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AgentEventRecord {
    fn from(row: Model) -> Self {
        Self { id: row.id, kind: row.kind, detail: row.detail, at: row.at }
    }
}
