//! Table `alert_rules`: conditions that open alerts.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AlertRuleId, PrincipalId, TenantId};
use crate::domain::integrations::alert::{AlertCondition, AlertMetric, AlertRuleRecord};
use crate::domain::time::Timestamp;

/// A rule.
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "alert_rules")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AlertRuleId,
    pub tenant_id: TenantId,
    pub name: String,
    pub metric: AlertMetric,
    pub threshold: f64,
    pub clear_threshold: f64,
    pub for_ms: i64,
    pub clear_for_ms: i64,
    /// A `TargetSpec`, JSON.
    pub target: String,
    pub is_enabled: bool,
    pub silenced_until: Option<Timestamp>,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    pub checked_at: Timestamp,
    /// `None` while it is disabled.
    pub check_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AlertRuleRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            condition: AlertCondition {
                metric: row.metric,
                threshold: row.threshold,
                clear_threshold: row.clear_threshold,
                for_ms: row.for_ms.unsigned_abs(),
                clear_for_ms: row.clear_for_ms.unsigned_abs(),
            },
            target: row.target,
            is_enabled: row.is_enabled,
            silenced_until: row.silenced_until,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
            checked_at: row.checked_at,
        }
    }
}

impl From<AlertRuleRecord> for Model {
    /// An enabled rule is checked at once.
    fn from(record: AlertRuleRecord) -> Self {
        Self {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name,
            metric: record.condition.metric,
            threshold: record.condition.threshold,
            clear_threshold: record.condition.clear_threshold,
            for_ms: record.condition.for_ms.cast_signed(),
            clear_for_ms: record.condition.clear_for_ms.cast_signed(),
            target: record.target,
            is_enabled: record.is_enabled,
            silenced_until: record.silenced_until,
            created_by: record.created_by,
            created_at: record.created_at,
            changed_at: record.changed_at,
            checked_at: record.checked_at,
            check_at: record.is_enabled.then_some(record.changed_at),
        }
    }
}
