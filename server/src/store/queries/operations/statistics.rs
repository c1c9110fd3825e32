//! Counts for the metrics.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, ExprTrait as _,
    PaginatorTrait as _, QueryFilter as _, QuerySelect as _, Statement,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::store::StoreError;
use crate::store::entities::commands::command;
use crate::store::entities::integrations::delivery;
use crate::store::queries::SystemScope;

impl SystemScope {
    /// Open commands, by state. Reads all open rows, by their index.
    pub async fn open_commands(&self) -> Result<Vec<(CommandState, u64)>, StoreError> {
        let rows: Vec<(CommandState, i64)> = command::Entity::find()
            .select_only()
            .column(command::Column::State)
            .column_as(Expr::col(command::Column::Id).count(), "commands")
            .filter(command::Column::FinishedAt.is_null())
            .group_by(command::Column::State)
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(rows.into_iter().map(|(state, count)| (state, count.unsigned_abs())).collect())
    }

    /// The size of the database: of its file, or of everything that PostgreSQL keeps for it.
    pub async fn database_bytes(&self) -> Result<u64, StoreError> {
        let query = match self.reader.get_database_backend() {
            DbBackend::Sqlite => {
                "SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size"
            }
            _ => "SELECT pg_database_size(current_database()) AS bytes",
        };
        let statement = Statement::from_string(self.reader.get_database_backend(), query);
        let row = self.reader.query_one_raw(statement).await?;
        let bytes: Option<i64> = row.map(|row| row.try_get("", "bytes")).transpose()?;
        Ok(bytes.unwrap_or_default().unsigned_abs())
    }

    /// Webhook deliveries that are pending.
    pub async fn pending_webhooks(&self) -> Result<u64, StoreError> {
        Ok(delivery::Entity::find()
            .filter(delivery::Column::State.eq(WebhookDeliveryState::Pending))
            .count(&self.reader)
            .await?)
    }
}
