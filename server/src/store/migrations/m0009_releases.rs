//! Releases, and what came of them on hosts.

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
        // The first key of an installation may do what is new; others are given it by name.
        let scopes = match manager.get_database_backend() {
            DbBackend::Postgres => {
                "UPDATE api_keys SET scopes = replace(scopes::text, ']', ',\"releases:manage\"]')::json
                 WHERE role = 'owner' AND scopes::text LIKE '%\"api_keys:write\"%'
                   AND id = (SELECT id FROM api_keys ORDER BY id LIMIT 1)"
            }
            _ => {
                "UPDATE api_keys SET scopes = replace(scopes, ']', ',\"releases:manage\"]')
                 WHERE role = 'owner' AND scopes LIKE '%\"api_keys:write\"%'
                   AND id = (SELECT id FROM api_keys ORDER BY id LIMIT 1)"
            }
        };
        connection.execute_unprepared(scopes).await?;
        Ok(())
    }
}

/// The same on both databases.
const STATEMENTS: [&str; 5] = [
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
    "ALTER TABLE agents ADD COLUMN update_verdict text",
    "ALTER TABLE agents ADD COLUMN update_verdict_at bigint",
];
