//! Table `output_blobs`: output of commands that was compacted into files.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;

/// The start of a command's output, in a compacted file. Chunks that arrived later follow it.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "output_blobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub command_id: CommandId,
    /// Increases each time the file is rewritten.
    #[sea_orm(column_name = "generation")]
    pub revision: i64,
    /// Payload of both streams up to the end of the file, with what was removed before it.
    pub length_bytes: i64,
    /// Payload of stdout, in the same way.
    pub stdout_bytes: i64,
    /// Size of the file.
    pub stored_bytes: i64,
    /// When the command ended. The oldest output is dropped first.
    pub finished_at: Timestamp,
    /// When the file was dropped to make room. The row remains, to show that there was output.
    pub dropped_at: Option<Timestamp>,
    /// When it was received, as `domain::commands::received` stores it.
    pub received: Vec<u8>,
    /// Payload of both streams that was removed before the file, because only the newest output is kept.
    pub start_bytes: i64,
    /// Payload of stdout in it.
    pub start_stdout_bytes: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
