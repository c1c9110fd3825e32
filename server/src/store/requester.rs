//! Whether the API key that requested a command may still have it sent.

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr};
use sea_orm::{ColumnTrait as _, Condition};

use super::entities::access::api_key;
use super::entities::commands::command;
use crate::domain::time::Timestamp;

/// Matches keys that are revoked or have expired.
pub(super) fn is_invalid_key(now: Timestamp) -> Condition {
    Condition::any()
        .add(api_key::Column::RevokedAt.is_not_null())
        .add(api_key::Column::ExpiresAt.lte(now))
}

/// Matches commands whose requesting key is neither revoked nor expired. The writer checks it in the
/// transaction that marks them as delivered, so a command is never sent after its key was revoked.
pub(super) fn has_valid_requester(now: Timestamp) -> SimpleExpr {
    let requested_by = Expr::col((command::Entity, command::Column::RequestedBy));
    let invalid = Query::select()
        .column(api_key::Column::Id)
        .from(api_key::Entity)
        .and_where(Expr::col((api_key::Entity, api_key::Column::Id)).eq(requested_by))
        .cond_where(is_invalid_key(now))
        .take();
    Expr::exists(invalid).not()
}
