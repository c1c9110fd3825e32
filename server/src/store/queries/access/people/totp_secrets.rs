//! The second factor of people.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
};

use super::recovery_codes::replace_codes;
use super::reported_change::{ReportedChange, report};
use super::session_end::{SessionsToEnd, end_all, sessions_to_end};
use crate::domain::access::credential::SecretHash;
use crate::domain::access::people::totp::{MAX_TOTP_TRIES, TOTP_TRIES_MS};
use crate::domain::ids::UserId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, totp_secret};
use crate::store::queries::SystemScope;
use crate::store::requester::write_audit;

/// Whether a code may be tried.
#[derive(Debug, Clone)]
pub enum TotpTry {
    /// With this secret. The try was counted.
    Counted(totp_secret::Model),
    /// Too many wrong ones came; the next one counts after so many milliseconds.
    Wait(u64),
    /// The person has no secret.
    NoSecret,
}

impl SystemScope {
    /// The secret of a person.
    pub async fn totp_secret(
        &self,
        user_id: UserId,
    ) -> Result<Option<totp_secret::Model>, StoreError> {
        Ok(totp_secret::Entity::find_by_id(user_id).all(&self.reader).await?.pop())
    }

    /// Stores a secret that waits for its first code, in place of an earlier one; false if the person has one
    /// that counts.
    pub async fn enrol_totp(
        &self,
        row: totp_secret::Model,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let known = find(transaction, row.user_id).await?;
                    if known.as_ref().is_some_and(|known| known.confirmed_at.is_some()) {
                        return Ok(false);
                    }
                    write_audit(transaction, audit).await?;
                    totp_secret::Entity::delete_by_id(row.user_id).exec(transaction).await?;
                    // Another secret gives no more tries.
                    let (tries, tried_since) = known
                        .map_or((row.tries, row.tried_since), |row| (row.tries, row.tried_since));
                    let row = totp_secret::Model { tries, tried_since, ..row };
                    totp_secret::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Counts a try of a code.
    pub async fn try_totp(&self, user_id: UserId, now: Timestamp) -> Result<TotpTry, StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    let Some(row) = find(transaction, user_id).await? else {
                        return Ok(TotpTry::NoSecret);
                    };
                    // Later ones are of a clock that was ahead.
                    let counts =
                        row.tried_since <= now && now.ms_since(row.tried_since) < TOTP_TRIES_MS;
                    let (tries, since) =
                        if counts { (row.tries, row.tried_since) } else { (0, now) };
                    if tries >= MAX_TOTP_TRIES {
                        return Ok(TotpTry::Wait(TOTP_TRIES_MS - now.ms_since(since)));
                    }
                    totp_secret::Entity::update_many()
                        .col_expr(totp_secret::Column::Tries, (tries + 1).into())
                        .col_expr(totp_secret::Column::TriedSince, since.0.into())
                        .filter(totp_secret::Column::UserId.eq(user_id))
                        .exec(transaction)
                        .await?;
                    Ok(TotpTry::Counted(row))
                })
            })
            .await
    }

    /// Begins to ask the person for codes, after the first one was right, and ends the other sessions; false
    /// if the secret was replaced or confirmed meanwhile.
    pub async fn confirm_totp(
        &self,
        user_id: UserId,
        (sealed, step): (Vec<u8>, i64),
        codes: Vec<SecretHash>,
        now: Timestamp,
        reported: ReportedChange,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (sealed, codes, reported) = (sealed.clone(), codes.clone(), reported.clone());
                Box::pin(async move {
                    let changed = totp_secret::Entity::update_many()
                        .col_expr(totp_secret::Column::ConfirmedAt, now.0.into())
                        .col_expr(totp_secret::Column::LastStep, step.into())
                        .col_expr(totp_secret::Column::Tries, 0.into())
                        .filter(totp_secret::Column::UserId.eq(user_id))
                        .filter(totp_secret::Column::Sealed.eq(sealed))
                        .filter(totp_secret::Column::ConfirmedAt.is_null())
                        .exec(transaction)
                        .await?;
                    if changed.rows_affected == 0 {
                        return Ok(false);
                    }
                    let session_id = reported.audits.first().and_then(|audit| audit.session_id);
                    report(transaction, reported).await?;
                    replace_codes(transaction, user_id, codes).await?;
                    if let Some(session_id) = session_id {
                        let others = SessionsToEnd::AllBut(session_id);
                        let ids = sessions_to_end(transaction, user_id, others).await?;
                        end_all(transaction, ids, now).await?;
                    }
                    Ok(true)
                })
            })
            .await
    }
}

/// True for a person who is asked for codes of a device.
pub(super) async fn has_totp(
    connection: &impl ConnectionTrait,
    user_id: UserId,
) -> Result<bool, StoreError> {
    let query = totp_secret::Entity::find_by_id(user_id)
        .filter(totp_secret::Column::ConfirmedAt.is_not_null());
    Ok(!query.all(connection).await?.is_empty())
}

pub(super) async fn find(
    transaction: &DatabaseTransaction,
    user_id: UserId,
) -> Result<Option<totp_secret::Model>, StoreError> {
    Ok(totp_secret::Entity::find_by_id(user_id).all(transaction).await?.pop())
}
