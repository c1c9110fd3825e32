//! Internal settings of the server.

use sea_orm::sea_query::OnConflict;
use sea_orm::{DatabaseTransaction, EntityTrait as _, IntoActiveModel as _};

use crate::store::StoreError;
use crate::store::entities::operations::setting;
use crate::store::queries::SystemScope;

/// Counts the checks that the database can be written.
const READINESS_CHECKS: &str = "readiness_checks";

impl SystemScope {
    /// Checks that the database can be read and written, by doing both. An empty transaction would
    /// also succeed on a full disk and in a read-only database.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot; [`StoreError::DiskFull`] if it only can until the log of SQLite
    /// needs more space.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        if self.checkpointer.is_some() && !self.blobs.has_space_for_database() {
            return Err(StoreError::DiskFull);
        }
        let known = self.setting(READINESS_CHECKS).await?;
        let count = known.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        let value = count.wrapping_add(1).to_be_bytes().to_vec();
        self.writer
            .change(move |transaction| {
                let value = value.clone();
                Box::pin(async move { put_setting(transaction, READINESS_CHECKS, value).await })
            })
            .await
    }

    /// The value of a setting.
    pub async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = setting::Entity::find_by_id(name).all(&self.reader).await?.pop();
        Ok(row.map(|row| row.value))
    }

    /// Replaces or removes settings in one transaction.
    pub async fn replace_settings(
        &self,
        settings: Vec<(&'static str, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let settings = settings.clone();
                Box::pin(async move {
                    for (name, value) in settings {
                        match value {
                            Some(value) => put_setting(transaction, name, value).await?,
                            None => {
                                setting::Entity::delete_by_id(name).exec(transaction).await?;
                            }
                        }
                    }
                    Ok(())
                })
            })
            .await
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

    /// Stores a setting unless it has a value, and returns the value that it has then. Callers at the same time
    /// get the same value.
    pub async fn create_setting_once(
        &self,
        name: &'static str,
        value: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        self.writer
            .change(move |transaction| {
                let row = setting::Model { name: name.into(), value: value.clone() };
                Box::pin(async move {
                    let keep = OnConflict::column(setting::Column::Name).do_nothing().to_owned();
                    setting::Entity::insert(row.into_active_model())
                        .on_conflict(keep)
                        .exec_without_returning(transaction)
                        .await?;
                    Ok(())
                })
            })
            .await?;
        self.setting(name).await?.ok_or(StoreError::Refused("the setting was removed"))
    }
}

/// Stores the value of a setting, whether it had one or not.
pub(in crate::store) async fn put_setting(
    transaction: &DatabaseTransaction,
    name: &'static str,
    value: Vec<u8>,
) -> Result<(), StoreError> {
    let row = setting::Model { name: name.into(), value };
    let replace =
        OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned();
    setting::Entity::insert(row.into_active_model())
        .on_conflict(replace)
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}
