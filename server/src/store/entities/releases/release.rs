//! Table `releases`: what was signed, and whether hosts may have it.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{ApiKeyId, ReleaseId};
use crate::domain::time::Timestamp;

/// A release. Its programs are files.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "releases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReleaseId,
    pub version: String,
    /// `release.json`, byte for byte as it was signed.
    pub manifest: String,
    /// `release.sig`, as it was given.
    pub signature: String,
    /// The public key that signed it, base64.
    pub release_key: String,
    pub created_at: Timestamp,
    pub created_by: ApiKeyId,
    /// Absent of a draft.
    pub published_at: Option<Timestamp>,
    pub published_by: Option<ApiKeyId>,
    /// From then on hosts are not given it.
    pub withdrawn_at: Option<Timestamp>,
}

impl Model {
    /// True if hosts may have it.
    pub fn is_open(&self) -> bool {
        self.published_at.is_some() && self.withdrawn_at.is_none()
    }

    /// True if it was withdrawn before it was ever published: its programs are not kept.
    pub fn is_dropped(&self) -> bool {
        self.published_at.is_none() && self.withdrawn_at.is_some()
    }
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
