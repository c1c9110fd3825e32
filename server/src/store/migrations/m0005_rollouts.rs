//! Jobs that know where they are, and that go in waves.

use sea_orm_migration::prelude::*;

/// Gives jobs a state and an end of their own, and roll-outs a place.
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

/// The same on both databases. Jobs of before are finished by the keeper, which takes up whatever
/// is unfinished when the server starts.
const STATEMENTS: [&str; 9] = [
    "ALTER TABLE jobs ADD COLUMN state text NOT NULL DEFAULT 'running'",
    "ALTER TABLE jobs ADD COLUMN finished_at bigint",
    "ALTER TABLE jobs ADD COLUMN stop text",
    "CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished_at IS NULL",
    "CREATE TABLE rollouts (
        job_id uuid NOT NULL PRIMARY KEY,
        tenant_id uuid NOT NULL,
        spec text NOT NULL,
        expires_in_ms bigint NOT NULL,
        wave integer NOT NULL,
        wave_count integer NOT NULL,
        offline_wave integer,
        wave_ended_at bigint,
        resumed_at bigint,
        gate_waived_wave integer,
        ignored_failures bigint NOT NULL,
        halt_reason text
    )",
    "ALTER TABLE commands ADD COLUMN wave integer",
    "ALTER TABLE commands ADD COLUMN is_held boolean NOT NULL DEFAULT false",
    // What is held and what is in flight of a roll-out, without touching what has ended.
    "CREATE INDEX commands_rollout ON commands (job_id, is_held, wave, id, finished_at) WHERE wave IS NOT NULL AND finished_at IS NULL",
    "CREATE INDEX commands_wave ON commands (job_id, wave) WHERE wave IS NOT NULL",
];
