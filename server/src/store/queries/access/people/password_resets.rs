//! Tokens for a new password.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _,
};

use super::members::replace_password;
use crate::domain::access::credential::SecretHash;
use crate::domain::ids::UserId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, mail, password_reset, user};
use crate::store::queries::SystemScope;
use crate::store::queries::access::mails::{queue_mail, queue_notice};
use crate::store::writer::add_audit;

/// Tokens of one person that are valid at the same time. Further requests send no mail.
const MAX_RESETS_OF_USER: u64 = 5;

/// Used in place of the person of an unknown address.
const NOBODY: UserId = UserId(uuid::Uuid::nil());

/// A request for a token.
#[derive(Debug, Clone)]
pub struct PasswordReset {
    /// `None` if no person has the address.
    pub row: Option<password_reset::Model>,
    pub mail: mail::Model,
    pub decoy: mail::Model,
}

/// A new password, by a token.
#[derive(Debug, Clone)]
pub struct NewPassword {
    pub token: SecretHash,
    pub user_id: UserId,
    pub password_hash: String,
    pub audits: Vec<audit_entry::Model>,
    pub notice: Option<mail::Model>,
}

impl SystemScope {
    /// Stores a token and its mail, or the decoy.
    pub async fn request_password_reset(
        &self,
        reset: PasswordReset,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let PasswordReset { row, mail, decoy } = reset.clone();
                Box::pin(async move {
                    password_reset::Entity::delete_many()
                        .filter(password_reset::Column::ExpiresAt.lte(now))
                        .exec(transaction)
                        .await?;
                    let user_id = row.as_ref().map_or(NOBODY, |row| row.user_id);
                    let open = password_reset::Entity::find()
                        .filter(password_reset::Column::UserId.eq(user_id))
                        .count(transaction)
                        .await?;
                    // Each request runs the same statements, whether or not a person has the address.
                    let mail = match row {
                        Some(row) if open < MAX_RESETS_OF_USER => {
                            password_reset::Entity::insert(row.into_active_model())
                                .exec_without_returning(transaction)
                                .await?;
                            mail
                        }
                        _ => {
                            password_reset::Entity::delete_many()
                                .filter(password_reset::Column::UserId.eq(NOBODY))
                                .exec(transaction)
                                .await?;
                            decoy
                        }
                    };
                    queue_mail(transaction, mail).await
                })
            })
            .await
    }

    /// The person of a token that is valid.
    pub async fn password_reset(
        &self,
        token: SecretHash,
        now: Timestamp,
    ) -> Result<Option<(password_reset::Model, user::Model)>, StoreError> {
        let Some(row) = find(&self.reader, token, now).await? else { return Ok(None) };
        let user = user::Entity::find_by_id(row.user_id).all(&self.reader).await?.pop();
        Ok(user.map(|user| (row, user)))
    }

    /// Replaces the password, and ends every session and every other token of the person. False if the
    /// token is no longer valid.
    pub async fn reset_password(
        &self,
        new: NewPassword,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let new = new.clone();
                Box::pin(async move {
                    let Some(row) = find(transaction, new.token, now).await? else {
                        return Ok(false);
                    };
                    if row.user_id != new.user_id {
                        return Ok(false);
                    }
                    password_reset::Entity::delete_many()
                        .filter(password_reset::Column::UserId.eq(new.user_id))
                        .exec(transaction)
                        .await?;
                    let (hash, audit) = (&new.password_hash, new.audits.first());
                    replace_password(transaction, new.user_id, hash, audit, now).await?;
                    for audit in new.audits {
                        add_audit(audit)?;
                    }
                    queue_notice(transaction, new.notice).await?;
                    Ok(true)
                })
            })
            .await
    }
}

async fn find(
    connection: &impl ConnectionTrait,
    token: SecretHash,
    now: Timestamp,
) -> Result<Option<password_reset::Model>, StoreError> {
    let query = password_reset::Entity::find_by_id(token.0.to_vec())
        .filter(password_reset::Column::ExpiresAt.gt(now));
    Ok(query.all(connection).await?.pop())
}
