//! Counts for the metrics.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, PaginatorTrait as _, QueryFilter as _,
    QuerySelect as _,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::integrations::webhook::DeliveryState;
use crate::store::StoreError;
use crate::store::entities::commands::command;
use crate::store::entities::integrations::webhook_delivery;
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

    /// Webhook deliveries that are pending.
    pub async fn pending_webhooks(&self) -> Result<u64, StoreError> {
        Ok(webhook_delivery::Entity::find()
            .filter(webhook_delivery::Column::State.eq(DeliveryState::Pending))
            .count(&self.reader)
            .await?)
    }
}
