//! Table `approval_rules`: which work of a tenant waits for another person's yes.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::commands::approval::ApprovalRule;
use crate::domain::ids::{ApprovalRuleId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::entities::column::StoredCondition;

/// A rule. It is never changed: people delete it and make another one.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "approval_rules")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ApprovalRuleId,
    pub tenant_id: TenantId,
    pub name: String,
    pub condition: StoredCondition,
    /// How long a request waits for a decision.
    pub wait_ms: i64,
    pub created_at: Timestamp,
    pub created_by: PrincipalId,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ApprovalRule {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            condition: row.condition.0,
            wait_ms: row.wait_ms.unsigned_abs(),
            created_at: row.created_at,
            created_by: row.created_by,
        }
    }
}
