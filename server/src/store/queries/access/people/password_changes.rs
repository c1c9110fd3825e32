//! People who change their password.

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::identities::remove_all_identities;
use super::session_end::{PASSWORD_CHANGED, SessionsToEnd, end_all, end_keys_of, sessions_to_end};
use super::user_sessions::confirm;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, mail, password_reset, user};
use crate::store::queries::SystemScope;
use crate::store::queries::access::mails::queue_notice;
use crate::store::requester::write_audit;
use crate::store::writer::add_audit;

impl SystemScope {
    /// Replaces the password of a person, if it is still the one that was checked, and ends the other
    /// sessions with the secrets of API keys that were made in them: another person may have made them. The
    /// session's password counts as proven. `remove_identities`: the person signs in with no provider any
    /// more. `audits`: the entry of the session first, then those of the
    /// person's other tenants.
    ///
    /// # Errors
    /// [`StoreError::SessionEnded`] if the password was changed meanwhile.
    pub async fn change_password(
        &self,
        user_id: UserId,
        (old_hash, new_hash): (String, String),
        (session_id, remove_identities): (SessionId, bool),
        now: Timestamp,
        (audits, notice): (Vec<audit_entry::Model>, Option<mail::Model>),
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (old, new, audits) = (old_hash.clone(), new_hash.clone(), audits.clone());
                let notice = notice.clone();
                Box::pin(async move {
                    for audit in audits.clone() {
                        write_audit(transaction, audit).await?;
                    }
                    let changed = user::Entity::update_many()
                        .col_expr(user::Column::PasswordHash, new.into())
                        .filter(user::Column::Id.eq(user_id))
                        .filter(user::Column::PasswordHash.eq(old))
                        .exec(transaction)
                        .await?;
                    if changed.rows_affected == 0 {
                        return Err(StoreError::SessionEnded);
                    }
                    // A mail of before must not undo it.
                    password_reset::Entity::delete_many()
                        .filter(password_reset::Column::UserId.eq(user_id))
                        .exec(transaction)
                        .await?;
                    let others = SessionsToEnd::AllBut(session_id);
                    let ids = sessions_to_end(transaction, user_id, others).await?;
                    if let Some(audit) = audits.first() {
                        for entry in
                            end_keys_of(transaction, &ids, audit, PASSWORD_CHANGED, now).await?
                        {
                            add_audit(entry)?;
                        }
                    }
                    end_all(transaction, ids, now).await?;
                    if remove_identities {
                        let audit = audits.first();
                        remove_all_identities(transaction, user_id, audit, now).await?;
                    }
                    queue_notice(transaction, notice).await?;
                    confirm(transaction, session_id, now, false).await
                })
            })
            .await
    }
}
