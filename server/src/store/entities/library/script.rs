//! Table `scripts`: the scripts of the library.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{PrincipalId, ScriptId, TenantId};
use crate::domain::library::records::ScriptRecord;
use crate::domain::time::Timestamp;
use crate::store::entities::column::StringList;

/// A script. What it runs is in its versions.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "scripts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ScriptId,
    pub tenant_id: TenantId,
    pub name: String,
    pub folder: String,
    pub tags: StringList,
    pub description: String,
    pub default_target: Option<String>,
    pub current_version: i32,
    pub latest_version: i32,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ScriptRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            folder: row.folder,
            tags: row.tags.0,
            description: row.description,
            default_target: row.default_target,
            current_version: row.current_version.unsigned_abs(),
            latest_version: row.latest_version.unsigned_abs(),
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<ScriptRecord> for Model {
    fn from(record: ScriptRecord) -> Self {
        Self {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name,
            folder: record.folder,
            tags: StringList(record.tags),
            description: record.description,
            default_target: record.default_target,
            current_version: record.current_version.cast_signed(),
            latest_version: record.latest_version.cast_signed(),
            created_by: record.created_by,
            created_at: record.created_at,
            changed_at: record.changed_at,
        }
    }
}
