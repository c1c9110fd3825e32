//! Jobs that know where they are: their state, and when they ended.

use sea_orm_migration::prelude::*;

/// Gives jobs a state and an end of their own.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

/// The same on both databases. Jobs of before are finished by the keeper, which takes up whatever
/// is unfinished when the server starts.
const STATEMENTS: [&str; 3] = [
    "ALTER TABLE jobs ADD COLUMN state text NOT NULL DEFAULT 'running'",
    "ALTER TABLE jobs ADD COLUMN finished_at bigint",
    "CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished_at IS NULL",
];
