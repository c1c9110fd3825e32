//! Table `agent_manifests`: the scripts that a host allows, as last reported.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::fleet::records::ManifestRecord;
use crate::domain::fleet::reported_manifest::ManifestInForce;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;

/// The scripts that a host allows, as last reported.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_manifests")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: AgentId,
    pub manifest: String,
    /// SHA-256 of `manifest`; `None` if the server that stored the row did not compute it.
    pub digest: Option<Vec<u8>>,
    pub error: Option<String>,
    /// Life-cycle commands that the host's policy forbids, with spaces between them.
    pub forbidden_commands: Option<String>,
    pub reported_at: Timestamp,
    /// Of `manifest`.
    pub size_bytes: i64,
    pub script_count: i64,
    /// When this manifest was first reported.
    pub in_force_since: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ManifestRecord {
    fn from(row: Model) -> Self {
        Self {
            manifest: row.manifest,
            in_force: ManifestInForce::of(row.error.is_some(), row.script_count),
            error: row.error,
            forbidden_commands: row.forbidden_commands,
            in_force_since: row.in_force_since,
            reported_at: row.reported_at,
        }
    }
}
