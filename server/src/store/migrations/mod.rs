//! The schema: one SQL file for each step, applied in order at every start.
//!
//! A released step never changes. Each step is one transaction, so an interrupted start leaves
//! either all of a step or nothing.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;
use sea_orm_migration::{MigrationTrait, MigratorTrait, async_trait};

use super::backup::SnapshotError;

/// The steps, oldest first.
const STEPS: [SqlStep; 1] =
    [SqlStep { name: "0001_initial_schema", statements: include_str!("0001_initial_schema.sql") }];

/// The statements of the first steps, which must have these names, for a database whose byte columns have
/// this type.
///
/// # Errors
/// [`SnapshotError::UnknownSchema`]
pub(super) fn statements(names: &[String], bytes: &str) -> Result<Vec<String>, SnapshotError> {
    let is_known = !names.is_empty()
        && names.len() <= STEPS.len()
        && names.iter().zip(&STEPS).all(|(name, step)| name == step.name);
    if !is_known {
        let shown = names.last().map_or("nothing", String::as_str);
        return Err(SnapshotError::UnknownSchema(shown.chars().take(64).collect()));
    }
    Ok(STEPS[..names.len()].iter().map(|step| step.statements.replace("{bytes}", bytes)).collect())
}

/// Applies the steps that a database does not have yet.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        STEPS.iter().map(|step| Box::new(*step) as Box<dyn MigrationTrait>).collect()
    }
}

/// One step. `statements` runs on SQLite and on PostgreSQL; `{bytes}` is replaced by the type of byte
/// columns.
#[derive(Clone, Copy)]
struct SqlStep {
    name: &'static str,
    statements: &'static str,
}

impl MigrationName for SqlStep {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SqlStep {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let bytes = match manager.get_database_backend() {
            DbBackend::Postgres => "bytea",
            _ => "blob",
        };
        let statements = self.statements.replace("{bytes}", bytes);
        manager.get_connection().execute_unprepared(&statements).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_one_transaction() {
        for step in Migrator::migrations() {
            assert_eq!(step.use_transaction(), Some(true), "{} is not atomic", step.name());
        }
    }
}
