//! Jobs: what was asked for once, for many agents.

use sea_orm_migration::prelude::*;

/// Makes the jobs, and ties commands to them.
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

/// The same on both databases: ids are 16 bytes on SQLite, where a column takes any type.
const STATEMENTS: [&str; 5] = [
    "CREATE TABLE jobs (
        id uuid NOT NULL PRIMARY KEY,
        tenant_id uuid NOT NULL,
        script text NOT NULL,
        data text NOT NULL,
        secret_names json NOT NULL,
        target text NOT NULL,
        agent_count bigint NOT NULL,
        requested_by uuid NOT NULL,
        requested_from text,
        created_at bigint NOT NULL
    )",
    "CREATE INDEX jobs_tenant ON jobs (tenant_id, id)",
    "ALTER TABLE commands ADD COLUMN job_id uuid",
    // Counts by state without touching the rows.
    "CREATE INDEX commands_job_state ON commands (job_id, state) WHERE job_id IS NOT NULL",
    "CREATE INDEX commands_job ON commands (job_id, id) WHERE job_id IS NOT NULL",
];
