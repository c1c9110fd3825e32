//! Internal settings of the server.

use sea_orm::{EntityTrait as _, IntoActiveModel as _};

use crate::store::StoreError;
use crate::store::entities::operations::setting;
use crate::store::queries::SystemScope;

impl SystemScope {
    /// The value of a setting.
    pub async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = setting::Entity::find_by_id(name).all(&self.reader).await?.pop();
        Ok(row.map(|row| row.value))
    }

    /// Stores a setting that has no value yet.
    ///
    /// # Errors
    /// [`StoreError::Database`], also if it already has a value.
    pub async fn create_setting(
        &self,
        name: &'static str,
        value: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let row = setting::Model { name: name.into(), value: value.clone() };
                Box::pin(async move {
                    setting::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}
