//! Releases, and what came of them on hosts.

use chrono::Utc;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// Makes the releases and the changes of their key, and gives agents a place for their verdict.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for statement in STATEMENTS {
            connection.execute_unprepared(statement).await?;
        }
        // One key of an installation may do what is new, and gives it to others by name: the oldest of
        // an owner's that holds, rather one that does not expire. Any other could hand it on to nobody.
        let (scopes, text) = match manager.get_database_backend() {
            DbBackend::Postgres => {
                ("replace(scopes::text, ']', ',\"releases:manage\"]')::json", "scopes::text")
            }
            _ => ("replace(scopes, ']', ',\"releases:manage\"]')", "scopes"),
        };
        let now = Utc::now().timestamp_millis();
        let scopes = format!(
            "UPDATE api_keys SET scopes = {scopes} WHERE id = (
                SELECT id FROM api_keys
                WHERE role = 'owner' AND {text} LIKE '%\"api_keys:write\"%'
                  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {now})
                ORDER BY expires_at IS NOT NULL, id LIMIT 1)"
        );
        connection.execute_unprepared(&scopes).await?;
        Ok(())
    }
}

/// The same on both databases.
const STATEMENTS: [&str; 10] = [
    "CREATE TABLE releases (
        id uuid NOT NULL PRIMARY KEY,
        version text NOT NULL UNIQUE,
        manifest text NOT NULL,
        signature text NOT NULL,
        release_key text NOT NULL,
        created_at bigint NOT NULL,
        created_by uuid NOT NULL,
        published_at bigint,
        published_by uuid,
        withdrawn_at bigint
    )",
    // Whoever publishes last decides on the key.
    "CREATE INDEX releases_published ON releases (published_at) WHERE published_at IS NOT NULL",
    "CREATE TABLE release_key_changes (
        id uuid NOT NULL PRIMARY KEY,
        old_key text NOT NULL UNIQUE,
        new_key text NOT NULL UNIQUE,
        signature text NOT NULL,
        created_at bigint NOT NULL,
        created_by uuid NOT NULL
    )",
    "ALTER TABLE agents ADD COLUMN update_result text",
    "ALTER TABLE agents ADD COLUMN update_result_at bigint",
    "CREATE TABLE groups_of_agents (
        id uuid NOT NULL PRIMARY KEY,
        tenant_id uuid NOT NULL,
        name text NOT NULL,
        target text NOT NULL,
        desired_version text,
        wave_size text NOT NULL,
        max_failures text NOT NULL,
        healthy_for_ms bigint NOT NULL,
        state text NOT NULL,
        halt_reason text,
        generation bigint NOT NULL,
        wave integer NOT NULL,
        healthy_wave integer NOT NULL,
        requested_by uuid NOT NULL,
        created_at bigint NOT NULL,
        changed_at bigint NOT NULL
    )",
    "CREATE UNIQUE INDEX groups_of_agents_name ON groups_of_agents (tenant_id, name)",
    "CREATE TABLE agent_updates (
        agent_id uuid NOT NULL PRIMARY KEY,
        tenant_id uuid NOT NULL,
        group_id uuid NOT NULL,
        generation bigint NOT NULL,
        wave integer NOT NULL,
        state text NOT NULL,
        command_id uuid NOT NULL,
        tries integer NOT NULL,
        due_at bigint NOT NULL,
        code text,
        message text,
        changed_at bigint NOT NULL
    )",
    "CREATE INDEX agent_updates_group ON agent_updates (group_id, agent_id)",
    // Every turn asks which groups have any of them, also where most agents of a fleet are done.
    "CREATE INDEX agent_updates_state ON agent_updates (state, group_id)",
];

#[cfg(test)]
mod tests {
    use muster_tests::{PostgresDatabase, TestDir};
    use sea_orm::{ConnectionTrait as _, Database, Statement};
    use sea_orm_migration::MigratorTrait as _;

    use crate::store::migrations::Migrator;

    /// Last digit of the id, role, scopes, end, and revocation of keys, oldest first.
    const KEYS: [(u8, &str, &str, &str, &str); 6] = [
        (1, "owner", r#"["api_keys:write"]"#, "NULL", "5"),
        (2, "owner", r#"["api_keys:write"]"#, "6", "NULL"),
        (3, "member", r#"["agents:read"]"#, "NULL", "NULL"),
        (4, "owner", r#"["agents:read"]"#, "NULL", "NULL"),
        (5, "owner", r#"["agents:read","api_keys:write"]"#, "NULL", "NULL"),
        (6, "owner", r#"["api_keys:write"]"#, "NULL", "NULL"),
    ];
    const AFTER: &str =
        "SELECT name FROM api_keys WHERE CAST(scopes AS text) LIKE '%releases:manage%'";

    /// Takes a database through the step whose first key was revoked long ago.
    async fn take_through(url: &str) {
        let database = Database::connect(url).await.expect("connect");
        Migrator::up(&database, Some(8)).await.expect("the steps before");
        for (id, role, scopes, expires_at, revoked_at) in KEYS {
            let insert = format!(
                "INSERT INTO api_keys (id, tenant_id, name, prefix, secret_hash, role, scopes, created_at,
                    expires_at, revoked_at) VALUES ('01980000-0000-7000-8000-00000000000{id}',
                    '01980000-0000-7000-8000-00000000000a', '{id}', 'mst_live_', '{id}', '{role}',
                    '{scopes}', 1, {expires_at}, {revoked_at})"
            );
            database.execute_unprepared(&insert).await.expect("insert");
        }
        Migrator::up(&database, None).await.expect("this step");
        let read = Statement::from_string(database.get_database_backend(), AFTER);
        let rows = database.query_all_raw(read).await.expect("read");
        let names: Vec<String> =
            rows.iter().map(|row| row.try_get("", "name").expect("a name")).collect();
        assert_eq!(names, ["5"]);
        database.close().await.expect("close");
    }

    #[tokio::test]
    async fn a_key_that_holds_may_publish_on_sqlite() {
        let test_dir = TestDir::new();
        let file = test_dir.path().join("old.db");
        take_through(&format!("sqlite:{}?mode=rwc", file.display())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_key_that_holds_may_publish_on_postgres() {
        let postgres = tokio::task::block_in_place(|| PostgresDatabase::empty());
        take_through(&postgres.url()).await;
    }
}
