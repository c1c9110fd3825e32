//! Table `script_signatures`: what publishers have signed about versions. The server can't make one.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{ScriptSignatureId, ScriptVersionId, TenantId};
use crate::domain::time::Timestamp;

/// The statement of one publisher about one version.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "script_signatures")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ScriptSignatureId,
    pub tenant_id: TenantId,
    pub version_id: ScriptVersionId,
    /// A public key, base64.
    pub publisher: String,
    /// A `SignedScript`, byte for byte as it was signed.
    pub statement: String,
    pub signature: String,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
