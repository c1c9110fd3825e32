//! What tells hosts' lists apart without reading them.

use sea_orm_migration::prelude::*;

/// Adds the digest of what a host reported.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let digest = Table::alter()
            .table(Alias::new("agent_manifests"))
            .add_column(ColumnDef::new(Alias::new("digest")).blob())
            .take();
        manager.alter_table(digest).await
    }
}
