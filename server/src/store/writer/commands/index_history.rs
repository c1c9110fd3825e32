//! New commands, filed into the indexes of the history.

use sea_orm::{ConnectionTrait as _, DbErr, Statement};

use crate::store::StoreError;
use crate::store::writer::Merge;
use crate::store::writer::connection::Work;

/// Files the oldest commands that are not filed yet, `limit` at the most.
///
/// Entries of one agent or script share pages, so a large slice is written for less than many small
/// ones; but nobody else writes meanwhile.
pub struct FileHistory {
    pub limit: u64,
}

const FILE: &str = "UPDATE commands SET is_indexed = TRUE WHERE id IN \
    (SELECT id FROM commands WHERE NOT is_indexed ORDER BY tenant_id, id LIMIT $1)";

impl Merge for FileHistory {
    /// How many were filed.
    type Done = u64;

    async fn apply(
        work: &Work<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<u64, StoreError>>, DbErr> {
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            let backend = work.transaction.get_database_backend();
            let limit = operation.limit.cast_signed();
            let statement = Statement::from_sql_and_values(backend, FILE, [limit.into()]);
            let done = work.transaction.execute_raw(statement).await?;
            results.push(Ok(done.rows_affected()));
        }
        Ok(results)
    }
}
