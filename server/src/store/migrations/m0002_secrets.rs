//! Secrets at rest: settings of the server itself, and sealed parameters beside commands.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Half of it would keep the next start from doing the rest.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = |name: &'static str| ColumnDef::new(Alias::new(name));
        let settings = Table::create()
            .table(Alias::new("settings"))
            .col(column("name").text().not_null().primary_key())
            .col(column("value").blob().not_null())
            .take();
        manager.create_table(settings).await?;
        let sealed = Table::alter()
            .table(Alias::new("commands"))
            .add_column(column("sealed_parameters").blob())
            .take();
        manager.alter_table(sealed).await
    }
}
