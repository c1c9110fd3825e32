//! New addresses of people, until they are verified.

use sea_orm::{ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};

use super::registrations::{Letters, has_account};
use crate::domain::ids::UserId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, email_change, mail, password_reset, user};
use crate::store::queries::SystemScope;
use crate::store::queries::access::mails::{queue_mail, queue_notice};
use crate::store::requester::write_audit;

/// How long wrong tries count, whichever request they were for: 1 h.
const TRIES_COUNT_MS: u64 = 3_600_000;

/// The right code, typed by a person.
#[derive(Debug, Clone)]
pub struct NewEmail {
    pub user_id: UserId,
    pub presented: Option<[u8; 32]>,
    /// For each tenant of the person.
    pub audits: Vec<audit_entry::Model>,
    /// To the old address.
    pub notice: Option<mail::Model>,
}

/// The result of [`SystemScope::change_email`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailChanged {
    Changed,
    /// The code is wrong, used or expired.
    Invalid,
}

impl SystemScope {
    /// Stores a wanted address with one of the mails, in place of an earlier one.
    pub async fn request_email_change(
        &self,
        row: email_change::Model,
        letters: Letters,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, letters) = (row.clone(), letters.clone());
                Box::pin(async move {
                    let earlier = email_change::Entity::find_by_id(row.user_id);
                    let earlier = earlier.all(transaction).await?.pop();
                    let counts = |known: &email_change::Model| {
                        known.tried_since > now.minus_ms(TRIES_COUNT_MS) && known.tried_since <= now
                    };
                    let (tries, tried_since) = match earlier.filter(counts) {
                        Some(known) => (known.tries, known.tried_since),
                        None => (0, now),
                    };
                    email_change::Entity::delete_by_id(row.user_id).exec(transaction).await?;
                    let is_known = has_account(transaction, &row.email).await?;
                    let row = email_change::Model { tries, tried_since, is_known, ..row };
                    email_change::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    let mail = if is_known { letters.in_use } else { letters.code };
                    queue_mail(transaction, mail).await
                })
            })
            .await
    }

    /// The address that a person wants to have.
    pub async fn email_change(
        &self,
        user_id: UserId,
    ) -> Result<Option<email_change::Model>, StoreError> {
        Ok(email_change::Entity::find_by_id(user_id).all(&self.reader).await?.pop())
    }

    /// Counts a try of a code. The right one changes the address, and ends tokens for a new password, which
    /// were sent to the old one.
    pub async fn change_email(
        &self,
        new: NewEmail,
        now: Timestamp,
    ) -> Result<EmailChanged, StoreError> {
        self.writer
            .change(move |transaction| {
                let new = new.clone();
                Box::pin(async move {
                    let found = email_change::Entity::find_by_id(new.user_id);
                    let Some(row) = found.all(transaction).await?.pop() else {
                        return Ok(EmailChanged::Invalid);
                    };
                    email_change::Entity::update_many()
                        .col_expr(email_change::Column::Tries, row.tries.saturating_add(1).into())
                        .filter(email_change::Column::UserId.eq(new.user_id))
                        .exec(transaction)
                        .await?;
                    let is_right = !row.is_known && row.code().is(new.presented, now);
                    if !is_right || has_account(transaction, &row.email).await? {
                        return Ok(EmailChanged::Invalid);
                    }
                    for audit in new.audits {
                        write_audit(transaction, audit).await?;
                    }
                    user::Entity::update_many()
                        .col_expr(user::Column::Email, row.email.into())
                        .filter(user::Column::Id.eq(new.user_id))
                        .exec(transaction)
                        .await?;
                    email_change::Entity::delete_by_id(new.user_id).exec(transaction).await?;
                    password_reset::Entity::delete_many()
                        .filter(password_reset::Column::UserId.eq(new.user_id))
                        .exec(transaction)
                        .await?;
                    queue_notice(transaction, new.notice).await?;
                    Ok(EmailChanged::Changed)
                })
            })
            .await
    }
}
