//! Table `releases`: signed descriptors, and whether hosts may install them.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{PrincipalId, ReleaseId};
use crate::domain::releases::records::ReleaseRecord;
use crate::domain::time::Timestamp;

/// A release. Its programs are files.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "releases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReleaseId,
    pub version: String,
    /// `release.json`, byte for byte.
    #[sea_orm(column_name = "manifest")]
    pub descriptor: String,
    /// `release.sig`, byte for byte.
    pub signature: String,
    /// The public key that signed it, base64.
    pub release_key: String,
    pub created_at: Timestamp,
    pub created_by: PrincipalId,
    /// `None` for a draft.
    pub published_at: Option<Timestamp>,
    pub published_by: Option<PrincipalId>,
    /// Hosts no longer install it.
    pub withdrawn_at: Option<Timestamp>,
}

impl Model {
    /// True if hosts may install it.
    pub fn is_open(&self) -> bool {
        self.published_at.is_some() && self.withdrawn_at.is_none()
    }

    /// True if it was withdrawn before it was ever published. Its programs are deleted then.
    pub fn is_dropped(&self) -> bool {
        self.published_at.is_none() && self.withdrawn_at.is_some()
    }
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ReleaseRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            version: row.version,
            created_at: row.created_at,
            created_by: row.created_by,
            published_at: row.published_at,
            published_by: row.published_by,
            withdrawn_at: row.withdrawn_at,
        }
    }
}
