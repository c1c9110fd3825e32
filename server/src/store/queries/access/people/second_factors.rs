//! The second factor of people: codes of a device, passkeys, and recovery codes beside them.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _,
};

use super::passkeys::{PasskeyUse, delete_passkeys, has_passkey, of_user, use_passkey};
use super::recovery_codes::replace_codes;
use super::reported_change::{ReportedChange, report};
use super::session_end::{SessionsToEnd, end_all, sessions_to_end};
use super::totp_secrets::{find, has_totp};
use crate::domain::access::credential::SecretHash;
use crate::domain::access::people::passkey::MAX_PASSKEYS_OF_PERSON;
use crate::domain::ids::{PasskeyId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, passkey, recovery_code, totp_secret, user};
use crate::store::queries::SystemScope;
use crate::store::requester::write_audit;

/// A second factor that was right when it was checked.
#[derive(Debug, Clone)]
pub enum UsedFactor {
    /// The step of a code of this secret.
    Totp {
        sealed: Vec<u8>,
        step: i64,
    },
    Recovery(SecretHash),
    Passkey(PasskeyUse),
}

/// The result of [`SystemScope::add_passkey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasskeyAddition {
    /// The person had another second factor before.
    Added,
    /// It is the first second factor. The recovery codes were stored, and the other sessions have ended.
    First,
    /// The device has one already.
    Taken,
    /// The person has too many.
    Full,
}

impl SystemScope {
    /// True for a person who signs in with a password alone.
    pub async fn lacks_second_factor(&self, user: &user::Model) -> Result<bool, StoreError> {
        lacks_second_factor(&self.reader, user).await
    }

    /// Uses up a second factor; false if it was used, or the secret replaced, meanwhile.
    pub async fn use_factor(
        &self,
        user_id: UserId,
        factor: UsedFactor,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let factor = factor.clone();
                Box::pin(async move { use_factor(transaction, user_id, factor).await })
            })
            .await
    }

    /// Replaces the recovery codes of a person; false without a second factor.
    pub async fn replace_recovery_codes(
        &self,
        user_id: UserId,
        codes: Vec<SecretHash>,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (codes, audit) = (codes.clone(), audit.clone());
                Box::pin(async move {
                    if !has_factor(transaction, user_id).await? {
                        return Ok(false);
                    }
                    write_audit(transaction, audit).await?;
                    replace_codes(transaction, user_id, codes).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Deletes the secret of a person, and the recovery codes unless there is a passkey; false without a
    /// secret.
    pub async fn disable_totp(
        &self,
        user_id: UserId,
        reported: ReportedChange,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let reported = reported.clone();
                Box::pin(async move {
                    if find(transaction, user_id).await?.is_none() {
                        return Ok(false);
                    }
                    report(transaction, reported).await?;
                    delete_factor(transaction, user_id).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Deletes the secret, the passkeys and the recovery codes of a person who lost them, and ends the person's
    /// sessions; false without any.
    pub async fn reset_totp(
        &self,
        user_id: UserId,
        now: Timestamp,
        reported: ReportedChange,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let reported = reported.clone();
                Box::pin(async move {
                    let passkeys = delete_passkeys(transaction, user_id).await?;
                    if passkeys == 0 && find(transaction, user_id).await?.is_none() {
                        return Ok(false);
                    }
                    report(transaction, reported).await?;
                    delete_factor(transaction, user_id).await?;
                    let open = sessions_to_end(transaction, user_id, SessionsToEnd::All).await?;
                    end_all(transaction, open, now).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Stores a passkey. `codes` count if it is the first second factor of the person.
    pub async fn add_passkey(
        &self,
        row: passkey::Model,
        codes: Vec<SecretHash>,
        now: Timestamp,
        reported: ReportedChange,
    ) -> Result<PasskeyAddition, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, codes, reported) = (row.clone(), codes.clone(), reported.clone());
                Box::pin(async move {
                    let same = passkey::Entity::find()
                        .filter(passkey::Column::CredentialId.eq(row.credential_id.clone()));
                    if same.count(transaction).await? > 0 {
                        return Ok(PasskeyAddition::Taken);
                    }
                    let known = of_user(transaction, row.user_id).await?.len();
                    if known >= MAX_PASSKEYS_OF_PERSON {
                        return Ok(PasskeyAddition::Full);
                    }
                    let is_first = known == 0 && !has_totp(transaction, row.user_id).await?;
                    let session_id = reported.audits.first().and_then(|audit| audit.session_id);
                    let user_id = row.user_id;
                    report(transaction, reported).await?;
                    passkey::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    if !is_first {
                        return Ok(PasskeyAddition::Added);
                    }
                    replace_codes(transaction, user_id, codes).await?;
                    if let Some(session_id) = session_id {
                        let others = SessionsToEnd::AllBut(session_id);
                        let ids = sessions_to_end(transaction, user_id, others).await?;
                        end_all(transaction, ids, now).await?;
                    }
                    Ok(PasskeyAddition::First)
                })
            })
            .await
    }

    /// Deletes a passkey, and ends the person's other sessions, which may have begun with it; false if the
    /// person has no such passkey.
    pub async fn remove_passkey(
        &self,
        (user_id, id): (UserId, PasskeyId),
        now: Timestamp,
        reported: ReportedChange,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let reported = reported.clone();
                Box::pin(async move {
                    let known = of_user(transaction, user_id).await?;
                    if !known.iter().any(|row| row.id == id) {
                        return Ok(false);
                    }
                    let session_id = reported.audits.first().and_then(|audit| audit.session_id);
                    report(transaction, reported).await?;
                    passkey::Entity::delete_by_id(id).exec(transaction).await?;
                    if known.len() == 1 && !has_totp(transaction, user_id).await? {
                        replace_codes(transaction, user_id, Vec::new()).await?;
                    }
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

/// Uses up a second factor; false if it was used, or the secret replaced, meanwhile.
pub(super) async fn use_factor(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    factor: UsedFactor,
) -> Result<bool, StoreError> {
    let used = match factor {
        UsedFactor::Passkey(used) => return use_passkey(transaction, user_id, used).await,
        UsedFactor::Totp { sealed, step } => {
            totp_secret::Entity::update_many()
                .col_expr(totp_secret::Column::LastStep, step.into())
                .col_expr(totp_secret::Column::Tries, 0.into())
                .filter(totp_secret::Column::UserId.eq(user_id))
                .filter(totp_secret::Column::Sealed.eq(sealed))
                .filter(totp_secret::Column::LastStep.lt(step))
                .exec(transaction)
                .await?
                .rows_affected
        }
        UsedFactor::Recovery(hash) => {
            recovery_code::Entity::delete_by_id((user_id, hash.0.to_vec()))
                .exec(transaction)
                .await?
                .rows_affected
        }
    };
    Ok(used == 1)
}

/// True for a person who signs in with a password alone. One without a password signs in at a provider,
/// which decides how people prove who they are.
pub(super) async fn lacks_second_factor(
    connection: &impl ConnectionTrait,
    user: &user::Model,
) -> Result<bool, StoreError> {
    if user.password_hash.is_empty() {
        return Ok(false);
    }
    Ok(!has_factor(connection, user.id).await?)
}

/// True for a person with a second factor: codes of a device, or a passkey.
async fn has_factor(
    connection: &impl ConnectionTrait,
    user_id: UserId,
) -> Result<bool, StoreError> {
    Ok(has_totp(connection, user_id).await? || has_passkey(connection, user_id).await?)
}

async fn delete_factor(
    transaction: &DatabaseTransaction,
    user_id: UserId,
) -> Result<(), StoreError> {
    totp_secret::Entity::delete_by_id(user_id).exec(transaction).await?;
    match has_passkey(transaction, user_id).await? {
        true => Ok(()),
        false => replace_codes(transaction, user_id, Vec::new()).await,
    }
}
