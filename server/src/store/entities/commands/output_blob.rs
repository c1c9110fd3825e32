//! Table `output_blobs`: the beginning of a command's output that stands in a compacted file.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;

/// The beginning of a command's output that stands in a compacted file; chunks that came later
/// follow it.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "output_blobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub command_id: CommandId,
    /// Increases each time the file is rewritten.
    pub generation: i64,
    /// Payload of both streams.
    pub length_bytes: i64,
    /// Payload of stdout.
    pub stdout_bytes: i64,
    /// Of the file.
    pub stored_bytes: i64,
    /// When its command ended: the oldest is dropped first.
    pub finished_at: Timestamp,
    /// Set when the file was dropped for room; the row stays as the mark.
    pub dropped_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
