//! Table `agent_fact_reports`: the last report of each host that reports facts.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AgentId, TenantId};
use crate::domain::time::Timestamp;

/// The report of a host; its facts are in `agent_facts`.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_fact_reports")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: AgentId,
    pub tenant_id: TenantId,
    /// SHA-256 of facts and errors.
    pub digest: Vec<u8>,
    /// A list of errors, JSON.
    pub errors: String,
    /// When a report was last other than the one before.
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
