//! Keys that sign access tokens.

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _,
};

use crate::domain::access::people::access_token::TokenKey;
use crate::domain::ids::TokenKeyId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::token_key;
use crate::store::queries::SystemScope;

impl SystemScope {
    /// All keys, the newest last.
    pub async fn token_keys(&self) -> Result<Vec<token_key::Model>, StoreError> {
        let query = token_key::Entity::find().order_by_asc(token_key::Column::Id);
        Ok(query.all(&self.reader).await?)
    }

    /// Deletes all keys: no access token that was issued is valid any more.
    pub async fn delete_token_keys(&self) -> Result<u64, StoreError> {
        self.writer
            .change(|transaction| {
                Box::pin(async move {
                    Ok(token_key::Entity::delete_many().exec(transaction).await?.rows_affected)
                })
            })
            .await
    }

    /// Stores a key that signs from now on, unless there is one that does, and deletes keys that were
    /// kept for long enough. Returns all keys, the newest last.
    pub async fn add_token_key(
        &self,
        row: token_key::Model,
        now: Timestamp,
    ) -> Result<Vec<token_key::Model>, StoreError> {
        self.writer
            .change(move |transaction| {
                let row = row.clone();
                Box::pin(async move {
                    let mut keys = read(transaction).await?;
                    let is_old =
                        |key: &token_key::Model| !TokenKey::is_kept_at(key.created_at, now);
                    let old: Vec<TokenKeyId> =
                        keys.iter().filter(|key| is_old(key)).map(|key| key.id).collect();
                    if !old.is_empty() {
                        token_key::Entity::delete_many()
                            .filter(token_key::Column::Id.is_in(old))
                            .exec(transaction)
                            .await?;
                        keys.retain(|key| !is_old(key));
                    }
                    if !keys.iter().any(|key| TokenKey::signs_at(key.created_at, now)) {
                        token_key::Entity::insert(row.clone().into_active_model())
                            .exec_without_returning(transaction)
                            .await?;
                        keys.push(row);
                    }
                    Ok(keys)
                })
            })
            .await
    }
}

async fn read(transaction: &DatabaseTransaction) -> Result<Vec<token_key::Model>, StoreError> {
    let query = token_key::Entity::find().order_by_asc(token_key::Column::Id);
    Ok(query.all(transaction).await?)
}
