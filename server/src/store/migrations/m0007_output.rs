//! Output in files: long chunks while it comes, compacted blobs after.

use sea_orm_migration::prelude::*;

/// Lets chunks stand in files, and makes the table of blobs.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Half of it would keep the next start from doing the rest.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

const STATEMENTS: [&str; 6] = [
    "ALTER TABLE output_chunks ADD COLUMN file_bytes bigint NOT NULL DEFAULT 0",
    "ALTER TABLE output_chunks ADD COLUMN file_end_bytes bigint NOT NULL DEFAULT 0",
    "ALTER TABLE output_chunks ADD COLUMN checksum bigint NOT NULL DEFAULT 0",
    // What compaction looks for. One short chunk, as most commands have, is not in it.
    "CREATE INDEX output_chunks_to_compact ON output_chunks (command_id)
        WHERE offset_bytes > 0 OR length_bytes > 4096",
    "CREATE TABLE output_blobs (
        command_id uuid NOT NULL PRIMARY KEY,
        generation bigint NOT NULL,
        length_bytes bigint NOT NULL,
        stdout_bytes bigint NOT NULL,
        stored_bytes bigint NOT NULL,
        finished_at bigint NOT NULL,
        dropped_at bigint
    )",
    "CREATE INDEX output_blobs_age ON output_blobs (finished_at, stored_bytes) WHERE dropped_at IS NULL",
];
