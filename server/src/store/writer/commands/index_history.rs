//! Adds new commands to the indexes of the history.

use sea_orm::{ConnectionTrait as _, DbErr, Statement};

use crate::store::StoreError;
use crate::store::writer::BatchOperation;
use crate::store::writer::connection::WriteTx;

/// Indexes the oldest commands that are not indexed yet, at most `limit`.
///
/// Index entries of one agent or script share pages, so one large batch costs less than many small
/// ones. Other writes wait meanwhile.
pub struct IndexHistory {
    pub limit: u64,
}

const INDEX: &str = "UPDATE commands SET is_indexed = TRUE WHERE id IN \
    (SELECT id FROM commands WHERE NOT is_indexed ORDER BY tenant_id, id LIMIT $1)";

impl BatchOperation for IndexHistory {
    /// Number of commands that were indexed.
    type Done = u64;

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<u64, StoreError>>, DbErr> {
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            let backend = tx.transaction.get_database_backend();
            let limit = operation.limit.cast_signed();
            let statement = Statement::from_sql_and_values(backend, INDEX, [limit.into()]);
            let done = tx.transaction.execute_raw(statement).await?;
            results.push(Ok(done.rows_affected()));
        }
        Ok(results)
    }
}
