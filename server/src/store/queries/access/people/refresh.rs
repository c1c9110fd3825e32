//! Refresh tokens of sessions: each is replaced by its use, in one transaction.

use std::sync::Arc;

use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _};

use super::session_end::end_one;
use super::user_sessions::live_member;
use crate::domain::access::credential::SecretHash;
use crate::domain::access::people::refresh_token::{
    PresentedRefresh, REFRESH_TOKEN_MS, RefreshDecision, RefreshState,
};
use crate::domain::ids::{MemberId, SessionId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, user_session};
use crate::store::queries::SystemScope;
use crate::store::writer::add_audit;

/// The result of [`SystemScope::refresh_session`].
#[derive(Debug, Clone, Copy)]
pub struct Refreshed {
    pub decision: RefreshDecision,
    pub member_id: MemberId,
    /// When the next token expires.
    pub expires_at: Timestamp,
}

impl SystemScope {
    /// Decides about a refresh token, and carries it out. `stolen` is the entry for a session that ends.
    pub async fn refresh_session(
        &self,
        id: SessionId,
        presented: PresentedRefresh,
        now: Timestamp,
        stolen: impl Fn(&user_session::Model) -> audit_entry::Model + Send + Sync + 'static,
    ) -> Result<Option<Refreshed>, StoreError> {
        let stolen = Arc::new(stolen);
        self.writer
            .change(move |transaction| {
                let stolen = Arc::clone(&stolen);
                Box::pin(async move {
                    let row = user_session::Entity::find_by_id(id).all(transaction).await?.pop();
                    let Some(row) = row else { return Ok(None) };
                    let Some(mut state) = refresh_state(&row) else { return Ok(None) };
                    state.has_ended |= live_member(transaction, row.member_id).await?.is_none();
                    let decision = state.decide(presented, now);
                    let mut expires_at = row.expires_at;
                    match decision {
                        RefreshDecision::Rotate => {
                            expires_at = now.plus_ms(REFRESH_TOKEN_MS);
                            rotate(transaction, &row, presented, now).await?;
                        }
                        RefreshDecision::End => {
                            end_one(transaction, id, now).await?;
                            add_audit(stolen(&row))?;
                        }
                        RefreshDecision::Repeat | RefreshDecision::Refuse => {}
                    }
                    Ok(Some(Refreshed { decision, member_id: row.member_id, expires_at }))
                })
            })
            .await
    }
}

fn refresh_state(row: &user_session::Model) -> Option<RefreshState> {
    let hash = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok().map(SecretHash);
    Some(RefreshState {
        current: hash(&row.refresh_hash)?,
        previous: row.previous_refresh_hash.as_deref().and_then(hash),
        refreshed_at: row.refreshed_at,
        expires_at: row.expires_at,
        has_ended: row.revoked_at.is_some(),
    })
}

async fn rotate(
    transaction: &DatabaseTransaction,
    row: &user_session::Model,
    presented: PresentedRefresh,
    now: Timestamp,
) -> Result<(), StoreError> {
    user_session::Entity::update_many()
        .col_expr(user_session::Column::RefreshHash, presented.next.0.to_vec().into())
        .col_expr(user_session::Column::PreviousRefreshHash, presented.hash.0.to_vec().into())
        .col_expr(user_session::Column::RefreshedAt, now.0.into())
        .col_expr(user_session::Column::ExpiresAt, now.plus_ms(REFRESH_TOKEN_MS).0.into())
        .filter(user_session::Column::Id.eq(row.id))
        .exec(transaction)
        .await?;
    Ok(())
}
