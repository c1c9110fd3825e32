//! Recovery codes of people.

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _,
};

use crate::domain::access::credential::SecretHash;
use crate::domain::ids::UserId;
use crate::store::StoreError;
use crate::store::entities::access::recovery_code;
use crate::store::queries::SystemScope;

impl SystemScope {
    /// How many recovery codes a person has not used.
    pub async fn recovery_codes_left(&self, user_id: UserId) -> Result<u64, StoreError> {
        let codes = recovery_code::Entity::find()
            .filter(recovery_code::Column::UserId.eq(user_id))
            .count(&self.reader);
        Ok(codes.await?)
    }
}

pub(super) async fn replace_codes(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    codes: Vec<SecretHash>,
) -> Result<(), StoreError> {
    recovery_code::Entity::delete_many()
        .filter(recovery_code::Column::UserId.eq(user_id))
        .exec(transaction)
        .await?;
    if codes.is_empty() {
        return Ok(());
    }
    let row = |hash: SecretHash| recovery_code::Model { user_id, code_hash: hash.0.to_vec() };
    let rows = codes.into_iter().map(|hash| row(hash).into_active_model());
    recovery_code::Entity::insert_many(rows).exec_without_returning(transaction).await?;
    Ok(())
}
