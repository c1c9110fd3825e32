//! Table `script_versions`: what each save of a script runs. Rows never change.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{PrincipalId, ScriptId, ScriptVersionId, TenantId};
use crate::domain::library::records::ScriptVersionRecord;
use crate::domain::time::Timestamp;

/// A version. Its body is in `script_bodies`, by the same id.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "script_versions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ScriptVersionId,
    pub tenant_id: TenantId,
    pub script_id: ScriptId,
    pub version: i32,
    /// A `ScriptDocument`, byte for byte as hosts get it.
    pub document: String,
    pub body_bytes: i64,
    pub message: String,
    pub author_id: PrincipalId,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ScriptVersionRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            script_id: row.script_id,
            version: row.version.unsigned_abs(),
            document: row.document,
            body_bytes: row.body_bytes,
            message: row.message,
            author_id: row.author_id,
            created_at: row.created_at,
        }
    }
}
