//! Table `output_chunks`: a run of output records, contiguous by offset within its command.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::CommandId;

/// A run of output records, contiguous by offset within its command.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "output_chunks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub command_id: CommandId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub offset_bytes: i64,
    pub length_bytes: i64,
    /// Payload of stdout before this chunk; the rest of `offset_bytes` is stderr.
    pub stdout_offset_bytes: i64,
    /// Payload of stdout in this chunk.
    pub stdout_bytes: i64,
    /// Empty if the records are in the command's live file.
    pub records: Vec<u8>,
    /// Size of the records in the live file; 0 if they are in this row.
    pub file_bytes: i64,
    /// Size of the live file up to the end of these records.
    pub file_end_bytes: i64,
    /// CRC-32 of the records in the live file.
    pub checksum: i64,
    /// When it was received, as `domain::commands::received` stores it.
    pub received: Vec<u8>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
