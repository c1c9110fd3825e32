//! What is sealed under the master key, to seal it again under another one.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::store::StoreError;
use crate::store::entities::access::{mail, token_key, totp_secret};
use crate::store::entities::commands::command;
use crate::store::entities::integrations::{integration, webhook_key};
use crate::store::entities::operations::setting;
use crate::store::entities::schedules::{hook, schedule};
use crate::store::queries::SystemScope;

/// A table with a sealed column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedTable {
    Commands,
    WebhookKeys,
    Hooks,
    Schedules,
    Integrations,
    /// Of the whole server.
    TokenKeys,
    /// Of the whole server.
    Mails,
    /// Of the whole server, by person.
    TotpSecrets,
}

/// A sealed value of a row.
#[derive(Debug, Clone)]
pub struct SealedValue {
    /// Of the row.
    pub id: Uuid,
    pub tenant_id: TenantId,
    pub sealed: Vec<u8>,
}

/// A sealed value that is replaced, unless another change has replaced it meanwhile.
#[derive(Debug, Clone)]
pub struct ResealedValue {
    /// Of the row.
    pub id: Uuid,
    pub previous: Vec<u8>,
    pub sealed: Vec<u8>,
}

impl SystemScope {
    /// Sealed values behind a row, in the order of the ids.
    pub async fn sealed_values(
        &self,
        table: SealedTable,
        after: Uuid,
        limit: u64,
    ) -> Result<Vec<SealedValue>, StoreError> {
        let rows: Vec<(Uuid, TenantId, Vec<u8>)> = match table {
            SealedTable::Commands => {
                command::Entity::find()
                    .select_only()
                    .column(command::Column::Id)
                    .column(command::Column::TenantId)
                    .column(command::Column::SealedParameters)
                    .filter(command::Column::Id.gt(after))
                    .filter(command::Column::SealedParameters.is_not_null())
                    .order_by_asc(command::Column::Id)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.reader)
                    .await?
            }
            SealedTable::WebhookKeys => {
                webhook_key::Entity::find()
                    .select_only()
                    .column(webhook_key::Column::Id)
                    .column(webhook_key::Column::TenantId)
                    .column(webhook_key::Column::Sealed)
                    .filter(webhook_key::Column::Id.gt(after))
                    .order_by_asc(webhook_key::Column::Id)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.reader)
                    .await?
            }
            SealedTable::Hooks => {
                hook::Entity::find()
                    .select_only()
                    .column(hook::Column::Id)
                    .column(hook::Column::TenantId)
                    .column(hook::Column::Sealed)
                    .filter(hook::Column::Id.gt(after))
                    .order_by_asc(hook::Column::Id)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.reader)
                    .await?
            }
            SealedTable::Schedules => {
                schedule::Entity::find()
                    .select_only()
                    .column(schedule::Column::Id)
                    .column(schedule::Column::TenantId)
                    .column(schedule::Column::SealedParameters)
                    .filter(schedule::Column::Id.gt(after))
                    .filter(schedule::Column::SealedParameters.is_not_null())
                    .order_by_asc(schedule::Column::Id)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.reader)
                    .await?
            }
            SealedTable::Integrations => {
                integration::Entity::find()
                    .select_only()
                    .column(integration::Column::Id)
                    .column(integration::Column::TenantId)
                    .column(integration::Column::Sealed)
                    .filter(integration::Column::Id.gt(after))
                    .order_by_asc(integration::Column::Id)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.reader)
                    .await?
            }
            SealedTable::TokenKeys => {
                let keys: Vec<(Uuid, Vec<u8>)> = token_key::Entity::find()
                    .select_only()
                    .column(token_key::Column::Id)
                    .column(token_key::Column::Sealed)
                    .filter(token_key::Column::Id.gt(after))
                    .order_by_asc(token_key::Column::Id)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.reader)
                    .await?;
                of_no_tenant(keys)
            }
            SealedTable::TotpSecrets => {
                let secrets = totp_secret::Entity::find()
                    .select_only()
                    .column(totp_secret::Column::UserId)
                    .column(totp_secret::Column::Sealed)
                    .filter(totp_secret::Column::UserId.gt(after))
                    .order_by_asc(totp_secret::Column::UserId)
                    .limit(limit);
                of_no_tenant(secrets.into_tuple().all(&self.reader).await?)
            }
            SealedTable::Mails => {
                let mails = mail::Entity::find()
                    .select_only()
                    .column(mail::Column::Id)
                    .column(mail::Column::Sealed)
                    .filter(mail::Column::Id.gt(after))
                    .filter(mail::Column::IsFailed.eq(false))
                    .order_by_asc(mail::Column::Id)
                    .limit(limit);
                of_no_tenant(mails.into_tuple().all(&self.reader).await?)
            }
        };
        let value = |(id, tenant_id, sealed)| SealedValue { id, tenant_id, sealed };
        Ok(rows.into_iter().map(value).collect())
    }

    /// Replaces sealed values in one transaction. A value that is not the previous one any more stays as it is.
    pub async fn replace_sealed_values(
        &self,
        table: SealedTable,
        values: Vec<ResealedValue>,
    ) -> Result<(), StoreError> {
        if values.is_empty() {
            return Ok(());
        }
        self.writer
            .change(move |transaction| {
                let values = values.clone();
                Box::pin(async move {
                    for ResealedValue { id, previous, sealed } in values {
                        match table {
                            SealedTable::Commands => {
                                command::Entity::update_many()
                                    .col_expr(
                                        command::Column::SealedParameters,
                                        Expr::value(sealed),
                                    )
                                    .filter(command::Column::Id.eq(id))
                                    .filter(command::Column::SealedParameters.eq(previous))
                                    .exec(transaction)
                                    .await?;
                            }
                            SealedTable::WebhookKeys => {
                                webhook_key::Entity::update_many()
                                    .col_expr(webhook_key::Column::Sealed, Expr::value(sealed))
                                    .filter(webhook_key::Column::Id.eq(id))
                                    .filter(webhook_key::Column::Sealed.eq(previous))
                                    .exec(transaction)
                                    .await?;
                            }
                            SealedTable::Hooks => {
                                hook::Entity::update_many()
                                    .col_expr(hook::Column::Sealed, Expr::value(sealed))
                                    .filter(hook::Column::Id.eq(id))
                                    .filter(hook::Column::Sealed.eq(previous))
                                    .exec(transaction)
                                    .await?;
                            }
                            SealedTable::Schedules => {
                                schedule::Entity::update_many()
                                    .col_expr(
                                        schedule::Column::SealedParameters,
                                        Expr::value(sealed),
                                    )
                                    .filter(schedule::Column::Id.eq(id))
                                    .filter(schedule::Column::SealedParameters.eq(previous))
                                    .exec(transaction)
                                    .await?;
                            }
                            SealedTable::Integrations => {
                                integration::Entity::update_many()
                                    .col_expr(integration::Column::Sealed, Expr::value(sealed))
                                    .filter(integration::Column::Id.eq(id))
                                    .filter(integration::Column::Sealed.eq(previous))
                                    .exec(transaction)
                                    .await?;
                            }
                            SealedTable::TokenKeys => {
                                token_key::Entity::update_many()
                                    .col_expr(token_key::Column::Sealed, Expr::value(sealed))
                                    .filter(token_key::Column::Id.eq(id))
                                    .filter(token_key::Column::Sealed.eq(previous))
                                    .exec(transaction)
                                    .await?;
                            }
                            SealedTable::TotpSecrets => {
                                totp_secret::Entity::update_many()
                                    .col_expr(totp_secret::Column::Sealed, Expr::value(sealed))
                                    .filter(totp_secret::Column::UserId.eq(id))
                                    .filter(totp_secret::Column::Sealed.eq(previous))
                                    .exec(transaction)
                                    .await?;
                            }
                            SealedTable::Mails => {
                                mail::Entity::update_many()
                                    .col_expr(mail::Column::Sealed, Expr::value(sealed))
                                    .filter(mail::Column::Id.eq(id))
                                    .filter(mail::Column::Sealed.eq(previous))
                                    .filter(mail::Column::IsFailed.eq(false))
                                    .exec(transaction)
                                    .await?;
                            }
                        }
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Replaces the value of a setting. False if it is not the previous one any more.
    pub async fn replace_setting(
        &self,
        name: &'static str,
        (previous, value): (Vec<u8>, Vec<u8>),
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (previous, value) = (previous.clone(), value.clone());
                Box::pin(async move {
                    let replaced = setting::Entity::update_many()
                        .col_expr(setting::Column::Value, Expr::value(value))
                        .filter(setting::Column::Name.eq(name))
                        .filter(setting::Column::Value.eq(previous))
                        .exec(transaction)
                        .await?;
                    Ok(replaced.rows_affected > 0)
                })
            })
            .await
    }
}

fn of_no_tenant(rows: Vec<(Uuid, Vec<u8>)>) -> Vec<(Uuid, TenantId, Vec<u8>)> {
    rows.into_iter().map(|(id, sealed)| (id, TenantId(Uuid::nil()), sealed)).collect()
}
