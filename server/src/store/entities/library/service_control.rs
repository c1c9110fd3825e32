//! Table `service_controls`: what people want of services on single agents.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AgentId, AssignmentId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;

/// A service that was stopped or restarted on one agent.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "service_controls")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub assignment_id: AssignmentId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: AgentId,
    pub tenant_id: TenantId,
    pub is_stopped: bool,
    pub restart_requests: i64,
    pub changed_by: PrincipalId,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
