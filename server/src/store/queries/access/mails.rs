//! Mails that wait to be sent.
//!
//! A mail is added in the transaction of what it reports. Its sender claims it first, so that of
//! several servers one does.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::MailId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::mail;
use crate::store::queries::SystemScope;

/// Mails that wait at the same time.
const MAX_WAITING_MAILS: u64 = 10_000;
/// How long the row of a mail that failed stays, without its text.
const FAILED_MAIL_MS: u64 = 7 * 24 * 3_600_000;

impl SystemScope {
    /// The mails with the earliest due times, which may be in the future.
    pub async fn waiting_mails(&self, limit: u64) -> Result<Vec<mail::Model>, StoreError> {
        let query = mail::Entity::find()
            .filter(Expr::cust("NOT is_failed"))
            .order_by_asc(mail::Column::DueAt)
            .limit(limit);
        Ok(query.all(&self.reader).await?)
    }

    /// Starts an attempt: counts it, and sets when the next one is due if this one has no result. False if
    /// another server started one.
    pub async fn claim_mail(
        &self,
        id: MailId,
        tries: i32,
        due_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    let claimed = mail::Entity::update_many()
                        .col_expr(mail::Column::Tries, (tries + 1).into())
                        .col_expr(mail::Column::DueAt, due_at.0.into())
                        .filter(mail::Column::Id.eq(id))
                        .filter(mail::Column::Tries.eq(tries))
                        .filter(mail::Column::IsFailed.eq(false))
                        .exec(transaction)
                        .await?;
                    Ok(claimed.rows_affected > 0)
                })
            })
            .await
    }

    /// Deletes a mail that was sent.
    pub async fn delete_mail(&self, id: MailId) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    mail::Entity::delete_by_id(id).exec(transaction).await?;
                    Ok(())
                })
            })
            .await
    }

    /// Sets when a mail is tried again.
    pub async fn retry_mail(&self, id: MailId, due_at: Timestamp) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    mail::Entity::update_many()
                        .col_expr(mail::Column::DueAt, due_at.0.into())
                        .filter(mail::Column::Id.eq(id))
                        .exec(transaction)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Gives a mail up: its text is deleted, and later its row.
    pub async fn fail_mail(&self, id: MailId, now: Timestamp) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    mail::Entity::update_many()
                        .col_expr(mail::Column::IsFailed, true.into())
                        .col_expr(mail::Column::Sealed, Expr::value(Vec::<u8>::new()))
                        .filter(mail::Column::Id.eq(id))
                        .exec(transaction)
                        .await?;
                    mail::Entity::delete_many()
                        .filter(mail::Column::IsFailed.eq(true))
                        .filter(mail::Column::CreatedAt.lt(now.minus_ms(FAILED_MAIL_MS)))
                        .exec(transaction)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}

impl SystemScope {
    /// Adds mails of an integration. Half of the room stays for mails that people wait for.
    ///
    /// # Errors
    /// [`StoreError::TooManyMails`].
    pub async fn queue_integration_mails(&self, mails: Vec<mail::Model>) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let mails = mails.clone();
                Box::pin(async move {
                    if waiting(transaction).await? >= MAX_WAITING_MAILS / 2 {
                        return Err(StoreError::TooManyMails);
                    }
                    for mail in mails {
                        insert(transaction, mail).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

/// Adds a mail to those that wait.
///
/// # Errors
/// [`StoreError::TooManyMails`].
pub(in crate::store::queries) async fn queue_mail(
    transaction: &DatabaseTransaction,
    mail: mail::Model,
) -> Result<(), StoreError> {
    if is_full(transaction).await? {
        return Err(StoreError::TooManyMails);
    }
    insert(transaction, mail).await
}

/// Adds a notice, which is less important than the change that it reports.
pub(in crate::store::queries) async fn queue_notice(
    transaction: &DatabaseTransaction,
    notice: Option<mail::Model>,
) -> Result<(), StoreError> {
    match notice {
        Some(mail) if !is_full(transaction).await? => insert(transaction, mail).await,
        _ => Ok(()),
    }
}

async fn is_full(transaction: &DatabaseTransaction) -> Result<bool, StoreError> {
    Ok(waiting(transaction).await? >= MAX_WAITING_MAILS)
}

async fn waiting(transaction: &DatabaseTransaction) -> Result<u64, StoreError> {
    Ok(mail::Entity::find().filter(Expr::cust("NOT is_failed")).count(transaction).await?)
}

async fn insert(transaction: &DatabaseTransaction, mail: mail::Model) -> Result<(), StoreError> {
    mail::Entity::insert(mail.into_active_model()).exec_without_returning(transaction).await?;
    Ok(())
}
