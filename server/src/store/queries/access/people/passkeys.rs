//! Passkeys of people.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
};

use super::session_end::{SessionsToEnd, end_all, sessions_to_end};
use super::totp_secrets::{ReportedChange, has_totp, replace_codes, report};
use crate::domain::access::credential::SecretHash;
use crate::domain::access::people::passkey::MAX_PASSKEYS_OF_PERSON;
use crate::domain::ids::{PasskeyId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::passkey;
use crate::store::queries::SystemScope;

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

/// What a device that signed just now leaves in the row of its passkey.
#[derive(Debug, Clone)]
pub struct PasskeyUse {
    pub id: PasskeyId,
    pub credential: String,
    pub sign_count: i64,
    pub at: Timestamp,
}

impl SystemScope {
    /// Passkeys of a person, the oldest first.
    pub async fn passkeys(&self, user_id: UserId) -> Result<Vec<passkey::Model>, StoreError> {
        of_user(&self.reader, user_id).await
    }

    /// The passkey with this id of its device.
    pub async fn passkey_of_device(
        &self,
        credential_id: &[u8],
    ) -> Result<Option<passkey::Model>, StoreError> {
        let query = passkey::Entity::find()
            .filter(passkey::Column::CredentialId.eq(credential_id.to_vec()));
        Ok(query.all(&self.reader).await?.pop())
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

/// Records that a device signed; false if the passkey was removed meanwhile, or its counter did not rise.
pub(super) async fn use_passkey(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    used: PasskeyUse,
) -> Result<bool, StoreError> {
    // A device that does not count always sends 0.
    let is_newer = match used.sign_count {
        0 => passkey::Column::SignCount.eq(0),
        count => passkey::Column::SignCount.lt(count),
    };
    let changed = passkey::Entity::update_many()
        .col_expr(passkey::Column::Credential, used.credential.into())
        .col_expr(passkey::Column::SignCount, used.sign_count.into())
        .col_expr(passkey::Column::LastUsedAt, used.at.0.into())
        .filter(passkey::Column::Id.eq(used.id))
        .filter(passkey::Column::UserId.eq(user_id))
        .filter(is_newer)
        .exec(transaction)
        .await?;
    Ok(changed.rows_affected == 1)
}

pub(super) async fn delete_passkeys(
    transaction: &DatabaseTransaction,
    user_id: UserId,
) -> Result<u64, StoreError> {
    let deleted = passkey::Entity::delete_many()
        .filter(passkey::Column::UserId.eq(user_id))
        .exec(transaction)
        .await?;
    Ok(deleted.rows_affected)
}

pub(super) async fn has_passkey(
    connection: &impl ConnectionTrait,
    user_id: UserId,
) -> Result<bool, StoreError> {
    let query = passkey::Entity::find().filter(passkey::Column::UserId.eq(user_id));
    Ok(query.count(connection).await? > 0)
}

async fn of_user(
    connection: &impl ConnectionTrait,
    user_id: UserId,
) -> Result<Vec<passkey::Model>, StoreError> {
    let query = passkey::Entity::find()
        .filter(passkey::Column::UserId.eq(user_id))
        .order_by_asc(passkey::Column::Id);
    Ok(query.all(connection).await?)
}
