//! The schema, step by step. A step that was released never changes.

mod m0001_command_bus;
mod m0002_secrets;
mod m0003_jobs;
mod m0004_history;
mod m0005_rollouts;
mod m0006_webhooks;
mod m0007_output;
mod m0008_manifest_digests;
mod m0009_releases;

use sea_orm_migration::{MigrationTrait, MigratorTrait, async_trait};

/// Applies the steps in order; used at every start.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_command_bus::Migration),
            Box::new(m0002_secrets::Migration),
            Box::new(m0003_jobs::Migration),
            Box::new(m0004_history::Migration),
            Box::new(m0005_rollouts::Migration),
            Box::new(m0006_webhooks::Migration),
            Box::new(m0007_output::Migration),
            Box::new(m0008_manifest_digests::Migration),
            Box::new(m0009_releases::Migration),
        ]
    }
}
