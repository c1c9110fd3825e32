//! The history of executions: what it is filtered by, and the indexes that are written later.
//!
//! An index whose entries lie anywhere (an agent's, a script's) costs a page of its own for every
//! command that is submitted. So new commands stand in one small index in the order of their ids,
//! and are filed into the others in slices, where many entries share a page.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::*;

/// Adds script, trigger and the filed indexes; takes away what they replace.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Half of it would keep the next start from doing the rest.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for statement in COLUMNS {
            connection.execute_unprepared(statement).await?;
        }
        // What is there is filed at once: its indexes are made behind it.
        let backfill = match manager.get_database_backend() {
            DbBackend::Postgres => BACKFILL_POSTGRES,
            _ => BACKFILL_SQLITE,
        };
        connection.execute_unprepared(backfill).await?;
        for statement in INDEXES {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

const COLUMNS: [&str; 3] = [
    // Of an `execute`; of no other command.
    "ALTER TABLE commands ADD COLUMN script text",
    "ALTER TABLE commands ADD COLUMN trigger text NOT NULL DEFAULT 'api'",
    "ALTER TABLE commands ADD COLUMN is_indexed boolean NOT NULL DEFAULT FALSE",
];

const BACKFILL_SQLITE: &str = "UPDATE commands SET is_indexed = TRUE, script =
    CASE command WHEN 'execute' THEN json_extract(data, '$.script') END";
const BACKFILL_POSTGRES: &str = "UPDATE commands SET is_indexed = TRUE, script =
    CASE command WHEN 'execute' THEN CAST(data AS json) ->> 'script' END";

const INDEXES: [&str; 9] = [
    "DROP INDEX commands_history",
    // New commands, until they are filed. Small, and written where the last one was.
    "CREATE INDEX commands_unindexed ON commands (tenant_id, id) WHERE NOT is_indexed",
    // The same condition in three wordings. SQLite takes a partial index only for a statement with
    // its very words: each walk names its index by them, whatever the planner guesses.
    "CREATE INDEX commands_history ON commands (tenant_id, id) WHERE is_indexed",
    "CREATE INDEX commands_agent ON commands (tenant_id, agent_id, id) WHERE is_indexed = TRUE",
    "CREATE INDEX commands_script ON commands (tenant_id, script, id)
        WHERE is_indexed <> FALSE AND script IS NOT NULL",
    // Written once, when a command ends badly; success costs nothing.
    "CREATE INDEX commands_unsuccessful ON commands (tenant_id, state, id)
        WHERE finished_at IS NOT NULL AND state <> 'succeeded'",
    // Counts by state and pages in the order of ids: one index does for both.
    "DROP INDEX commands_job_state",
    "DROP INDEX commands_job",
    "CREATE INDEX commands_job ON commands (job_id, state, id) WHERE job_id IS NOT NULL",
];

#[cfg(test)]
mod tests {
    use muster_tests::{PostgresDatabase, TestDir};
    use sea_orm::{ConnectionTrait as _, Database, Statement};
    use sea_orm_migration::MigratorTrait as _;

    use crate::store::migrations::Migrator;

    const BEFORE: &str = r#"INSERT INTO commands (id, tenant_id, agent_id, command, data, state,
        requested_by, created_at, expires_at, timeout_ms, lost_after_ms) VALUES
        ('01980000-0000-7000-8000-000000000001', '01980000-0000-7000-8000-00000000000a',
         '01980000-0000-7000-8000-00000000000b', 'execute',
         '{"parameters":{"script":"no"},"script":"deploy"}', 'succeeded',
         '01980000-0000-7000-8000-00000000000c', 1, 2, 3, 4),
        ('01980000-0000-7000-8000-000000000002', '01980000-0000-7000-8000-00000000000a',
         '01980000-0000-7000-8000-00000000000b', 'restart', '{"script":"no"}', 'queued',
         '01980000-0000-7000-8000-00000000000c', 1, 2, 3, 4)"#;
    const AFTER: &str = "SELECT script, trigger, is_indexed FROM commands ORDER BY id";

    /// Takes a database through the step, with a run and a restart in it.
    async fn take_through(url: &str) {
        let database = Database::connect(url).await.expect("connect");
        Migrator::up(&database, Some(3)).await.expect("the steps before");
        database.execute_unprepared(BEFORE).await.expect("insert");
        Migrator::up(&database, None).await.expect("this step");
        let read = Statement::from_string(database.get_database_backend(), AFTER);
        let rows = database.query_all_raw(read).await.expect("read");
        let rows: Vec<(Option<String>, String, bool)> = rows
            .iter()
            .map(|row| row.try_get_many("", &["script", "trigger", "is_indexed"].map(String::from)))
            .collect::<Result<_, _>>()
            .expect("as they are");
        let deploy = (Some("deploy".to_owned()), "api".to_owned(), true);
        assert_eq!(rows, [deploy, (None, "api".to_owned(), true)]);
        database.close().await.expect("close");
    }

    #[tokio::test]
    async fn what_is_there_gets_its_script_and_is_filed_on_sqlite() {
        let test_dir = TestDir::new();
        let file = test_dir.path().join("old.db");
        take_through(&format!("sqlite:{}?mode=rwc", file.display())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_there_gets_its_script_and_is_filed_on_postgres() {
        let postgres = tokio::task::block_in_place(|| PostgresDatabase::empty());
        take_through(&postgres.url()).await;
    }
}
