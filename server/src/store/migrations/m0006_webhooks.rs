//! Webhooks: where a job's end is told, and every message of it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// Makes the deliveries and the keys that they are signed with.
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
        for statement in STATEMENTS {
            // The one type that is called otherwise.
            let statement = match manager.get_database_backend() {
                DbBackend::Postgres => statement.replace(" blob ", " bytea "),
                _ => statement.to_owned(),
            };
            connection.execute_unprepared(&statement).await?;
        }
        // Keys that may do everything may do what is new.
        let scopes = match manager.get_database_backend() {
            DbBackend::Postgres => {
                "UPDATE api_keys SET scopes = replace(scopes::text, ']', ',\"webhooks:write\",\"metrics:read\"]')::json
                 WHERE role = 'owner' AND scopes::text LIKE '%\"api_keys:write\"%'"
            }
            _ => {
                "UPDATE api_keys SET scopes = replace(scopes, ']', ',\"webhooks:write\",\"metrics:read\"]')
                 WHERE role = 'owner' AND scopes LIKE '%\"api_keys:write\"%'"
            }
        };
        connection.execute_unprepared(scopes).await?;
        Ok(())
    }
}

const STATEMENTS: [&str; 9] = [
    "ALTER TABLE jobs ADD COLUMN webhook_url text",
    "CREATE TABLE webhook_keys (
        id uuid NOT NULL PRIMARY KEY,
        tenant_id uuid NOT NULL,
        sealed blob NOT NULL,
        created_at bigint NOT NULL,
        valid_until bigint
    )",
    // One key of a tenant is the present one, whoever asks for the first at the same time.
    "CREATE UNIQUE INDEX webhook_keys_present ON webhook_keys (tenant_id) WHERE valid_until IS NULL",
    "CREATE INDEX webhook_keys_tenant ON webhook_keys (tenant_id, id)",
    "CREATE TABLE webhook_deliveries (
        id uuid NOT NULL PRIMARY KEY,
        tenant_id uuid NOT NULL,
        job_id uuid NOT NULL,
        event text NOT NULL,
        url text NOT NULL,
        host text NOT NULL,
        state text NOT NULL,
        created_at bigint NOT NULL,
        due_at bigint NOT NULL,
        give_up_at bigint NOT NULL,
        finished_at bigint,
        attempt_count integer NOT NULL,
        tries integer NOT NULL,
        attempts json NOT NULL
    )",
    "CREATE INDEX webhook_deliveries_tenant ON webhook_deliveries (tenant_id, id)",
    "CREATE INDEX webhook_deliveries_job ON webhook_deliveries (job_id, id)",
    // Read from its beginning: as small as what waits, and enough to choose by.
    "CREATE INDEX webhook_deliveries_due ON webhook_deliveries (due_at, host, id) WHERE state = 'pending'",
    "CREATE INDEX webhook_deliveries_state ON webhook_deliveries (tenant_id, state, id)",
];
