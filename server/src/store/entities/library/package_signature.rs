//! Table `package_signatures`: what publishers have signed about packages. The server can't make one.

use muster_protocol::library::ScriptSignature;
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{PackageId, PackageSignatureId, TenantId};
use crate::domain::time::Timestamp;

/// The statement of one publisher about one version of a package.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "package_signatures")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PackageSignatureId,
    pub tenant_id: TenantId,
    pub package_id: PackageId,
    /// A public key, base64.
    pub publisher: String,
    /// A `SignedPackage`, byte for byte as it was signed.
    pub statement: String,
    pub signature: String,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ScriptSignature {
    fn from(row: Model) -> Self {
        Self { statement: row.statement, signature: row.signature }
    }
}
