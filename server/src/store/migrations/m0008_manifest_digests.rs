//! What tells hosts' lists apart without reading them, and the scope of ad-hoc commands.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// Adds the digest of what a host reported; keys that may do everything may do what is new.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Half of it would keep the next start from doing the rest.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let digest = Table::alter()
            .table(Alias::new("agent_manifests"))
            .add_column(ColumnDef::new(Alias::new("digest")).blob())
            .take();
        manager.alter_table(digest).await?;
        let scopes = match manager.get_database_backend() {
            DbBackend::Postgres => {
                "UPDATE api_keys SET scopes = replace(scopes::text, ']', ',\"commands:shell\"]')::json
                 WHERE role = 'owner' AND scopes::text LIKE '%\"api_keys:write\"%'"
            }
            _ => {
                "UPDATE api_keys SET scopes = replace(scopes, ']', ',\"commands:shell\"]')
                 WHERE role = 'owner' AND scopes LIKE '%\"api_keys:write\"%'"
            }
        };
        manager.get_connection().execute_unprepared(scopes).await?;
        Ok(())
    }
}
