//! Passkeys of people.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _,
};

use crate::domain::ids::{PasskeyId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::passkey;
use crate::store::queries::SystemScope;

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

pub(super) async fn of_user(
    connection: &impl ConnectionTrait,
    user_id: UserId,
) -> Result<Vec<passkey::Model>, StoreError> {
    let query = passkey::Entity::find()
        .filter(passkey::Column::UserId.eq(user_id))
        .order_by_asc(passkey::Column::Id);
    Ok(query.all(connection).await?)
}
