//! Keys that expire soon are reported once for each instant at which they expire.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Query, SelectStatement};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use serde_json::json;
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{agent_key, api_key, key_notice};
use crate::store::queries::SystemScope;
use crate::store::queries::access::tenants::tenant_deletion::closed_tenants;
use crate::store::writer::add_events;

/// Most keys of one transaction, of each kind.
const KEYS_AT_ONCE: u64 = 200;

/// A key that expires soon.
#[derive(Debug, Clone)]
struct ExpiringKey {
    id: Uuid,
    tenant_id: TenantId,
    kind: &'static str,
    name: String,
    expires_at: Timestamp,
}

impl SystemScope {
    /// Reports keys that expire within `notice_ms` and were not reported, a slice of them. Keys that live no
    /// longer than that are not reported. Returns how many were.
    pub async fn report_expiring_keys(
        &self,
        now: Timestamp,
        notice_ms: u64,
    ) -> Result<usize, StoreError> {
        let keys = self.expiring_keys(now, notice_ms).await?;
        if keys.is_empty() {
            return Ok(0);
        }
        self.writer
            .change(move |transaction| {
                let keys = keys.clone();
                Box::pin(async move {
                    let mut reported = 0;
                    for key in keys {
                        if report(transaction, key, now).await? {
                            reported += 1;
                        }
                    }
                    Ok(reported)
                })
            })
            .await
    }

    async fn expiring_keys(
        &self,
        now: Timestamp,
        notice_ms: u64,
    ) -> Result<Vec<ExpiringKey>, StoreError> {
        let until = now.plus_ms(notice_ms);
        let most_created_at = |expires_at: Expr| expires_at.sub(notice_ms.cast_signed());
        let api_keys: Vec<(Uuid, TenantId, String, Timestamp)> = api_key::Entity::find()
            .select_only()
            .column(api_key::Column::Id)
            .column(api_key::Column::TenantId)
            .column(api_key::Column::Name)
            .column(api_key::Column::ExpiresAt)
            .filter(api_key::Column::ExpiresAt.gt(now))
            .filter(api_key::Column::ExpiresAt.lte(until))
            .filter(api_key::Column::RevokedAt.is_null())
            .filter(
                Expr::col((api_key::Entity, api_key::Column::CreatedAt))
                    .lt(most_created_at(Expr::col((api_key::Entity, api_key::Column::ExpiresAt)))),
            )
            .filter(Expr::exists(known_notice("api_keys")).not())
            .filter(api_key::Column::TenantId.not_in_subquery(closed_tenants()))
            .order_by_asc(api_key::Column::ExpiresAt)
            .limit(KEYS_AT_ONCE)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let agent_keys: Vec<(Uuid, TenantId, String, Timestamp)> =
            agent_key::Entity::find()
                .select_only()
                .column(agent_key::Column::Id)
                .column(agent_key::Column::TenantId)
                .column(agent_key::Column::Name)
                .column(agent_key::Column::ExpiresAt)
                .filter(agent_key::Column::ExpiresAt.gt(now))
                .filter(agent_key::Column::ExpiresAt.lte(until))
                .filter(agent_key::Column::IsDisabled.eq(false))
                .filter(Expr::col((agent_key::Entity, agent_key::Column::CreatedAt)).lt(
                    most_created_at(Expr::col((agent_key::Entity, agent_key::Column::ExpiresAt))),
                ))
                .filter(Expr::exists(known_notice("agent_keys")).not())
                .filter(agent_key::Column::TenantId.not_in_subquery(closed_tenants()))
                .order_by_asc(agent_key::Column::ExpiresAt)
                .limit(KEYS_AT_ONCE)
                .into_tuple()
                .all(&self.reader)
                .await?;
        let key = |kind| {
            move |(id, tenant_id, name, expires_at)| ExpiringKey {
                id,
                tenant_id,
                kind,
                name,
                expires_at,
            }
        };
        let agent_keys = agent_keys.into_iter().map(key("agent_key"));
        Ok(api_keys.into_iter().map(key("api_key")).chain(agent_keys).collect())
    }
}

/// The notice of a key of this table for its present expiry.
fn known_notice(table: &'static str) -> SelectStatement {
    Query::select()
        .expr(Expr::val(1))
        .from(key_notice::Entity)
        .and_where(Expr::cust(format!("key_notices.key_id = {table}.id")))
        .and_where(Expr::cust(format!("key_notices.expires_at = {table}.expires_at")))
        .take()
}

/// Stores the notice with its event; false if another server did.
async fn report(
    transaction: &DatabaseTransaction,
    key: ExpiringKey,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let notice = key_notice::Model {
        key_id: key.id,
        expires_at: key.expires_at,
        tenant_id: key.tenant_id,
        sent_at: now,
    };
    let known = OnConflict::columns([key_notice::Column::KeyId, key_notice::Column::ExpiresAt])
        .do_nothing()
        .to_owned();
    let stored = key_notice::Entity::insert_many([notice.into_active_model()])
        .on_conflict(known)
        .exec_without_returning(transaction)
        .await?;
    if stored == 0 {
        return Ok(false);
    }
    add_events([IntegrationEvent {
        tenant_id: key.tenant_id,
        event: EventType::KeyExpiring,
        at: now,
        subject_id: key.id,
        agent_id: None,
        job_id: None,
        data: json!({"key_id": key.id, "key_kind": key.kind, "key_name": key.name,
            "expires_at": key.expires_at}),
    }]);
    Ok(true)
}
