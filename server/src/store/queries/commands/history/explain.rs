//! The query plans of a page, for tests and for diagnosis.

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbBackend, QueryTrait as _, Statement};

use super::scan::Walk;
use super::{CommandFilter, Effort};
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::queries::TenantScope;

/// One statement that may be part of reading a page.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The index that it must use.
    pub index: &'static str,
    pub statement: String,
    /// The plan that the database reports, line by line.
    pub plan: Vec<String>,
}

impl TenantScope {
    /// The plans of all statements that [`Self::commands`] could use for this filter, not only of
    /// those that it would choose.
    pub async fn explain_commands(
        &self,
        filter: &CommandFilter,
        page: PageRequest,
    ) -> Result<Vec<Explained>, StoreError> {
        let snapshot = self.snapshot().await?;
        let stretch = self.stretch(&snapshot, filter, page, Effort::default());
        let backend = snapshot.get_database_backend();
        let mut explained = Vec::new();
        for walk in stretch.plans().await?.iter().flatten() {
            let statements = match walk {
                Walk::Open { .. } => vec![stretch.open_query(walk, None)],
                _ => {
                    vec![stretch.rows_query(walk, None, page.limit + 1), stretch.floor_query(walk)]
                }
            };
            for statement in statements {
                let statement = statement.build(backend);
                let index = walk.index();
                let plan = plan(&snapshot, &statement).await?;
                explained.push(Explained { index, statement: statement.sql, plan });
            }
        }
        let much_open = stretch.much_open_query(filter.agent_id).build(backend);
        let plan = plan(&snapshot, &much_open).await?;
        explained.push(Explained { index: "commands_open", statement: much_open.sql, plan });
        Ok(explained)
    }
}

async fn plan(
    snapshot: &DatabaseTransaction,
    statement: &Statement,
) -> Result<Vec<String>, StoreError> {
    let (words, column) = match statement.db_backend {
        DbBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
        _ => ("EXPLAIN QUERY PLAN", "detail"),
    };
    let explain = Statement { sql: format!("{words} {}", statement.sql), ..statement.clone() };
    let lines = snapshot.query_all_raw(explain).await?;
    Ok(lines.iter().map(|line| line.try_get::<String>("", column)).collect::<Result<_, _>>()?)
}
