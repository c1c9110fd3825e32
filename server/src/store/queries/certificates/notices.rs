//! Certificates that were not renewed are reported once for each instant at which they expire.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Query};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use serde_json::json;

use crate::domain::certificates::client_certificate::CertificateHolder;
use crate::domain::certificates::validity::EXPIRY_WARNING_MS;
use crate::domain::ids::AgentId;
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::key_notice;
use crate::store::entities::certificates::client_certificate::{Column, Entity, Model};
use crate::store::queries::SystemScope;
use crate::store::queries::access::tenants::tenant_deletion::closed_tenants;
use crate::store::writer::add_events;

/// Most certificates of one transaction.
const CERTIFICATES_AT_ONCE: u64 = 200;

impl SystemScope {
    /// Reports certificates that end within 7 days and were not reported, a slice of them. Returns how many
    /// were.
    pub async fn report_expiring_certificates(&self, now: Timestamp) -> Result<usize, StoreError> {
        let known = Query::select()
            .expr(Expr::val(1))
            .from(key_notice::Entity)
            .and_where(Expr::cust("key_notices.key_id = client_certificates.id"))
            .and_where(Expr::cust("key_notices.expires_at = client_certificates.expires_at"))
            .take();
        let rows = Entity::find()
            .filter(Column::RevokedAt.is_null())
            .filter(Column::ExpiresAt.gt(now))
            .filter(Column::ExpiresAt.lte(now.plus_ms(EXPIRY_WARNING_MS)))
            .filter(Expr::exists(known).not())
            .filter(Column::TenantId.not_in_subquery(closed_tenants()))
            .order_by_asc(Column::ExpiresAt)
            .limit(CERTIFICATES_AT_ONCE)
            .all(&self.reader)
            .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        self.writer
            .change(move |transaction| {
                let rows = rows.clone();
                Box::pin(async move {
                    let mut reported = 0;
                    for row in rows {
                        if report(transaction, row, now).await? {
                            reported += 1;
                        }
                    }
                    Ok(reported)
                })
            })
            .await
    }
}

/// Stores the notice with its event; false if another server did.
async fn report(
    transaction: &DatabaseTransaction,
    row: Model,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let notice = key_notice::Model {
        key_id: row.id.0,
        expires_at: row.expires_at,
        tenant_id: row.tenant_id,
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
    let is_agent = row.holder == CertificateHolder::Agent;
    add_events([IntegrationEvent {
        tenant_id: row.tenant_id,
        event: EventType::CertificateExpiring,
        at: now,
        subject_id: row.id.0,
        agent_id: is_agent.then_some(AgentId(row.holder_id)),
        job_id: None,
        data: json!({"certificate_id": row.id, "holder": row.holder, "holder_id": row.holder_id,
            "expires_at": row.expires_at}),
    }]);
    Ok(true)
}
