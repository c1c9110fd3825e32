//! Certificates that were not renewed are reported once for each instant at which they expire.

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Query};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use serde_json::json;
use uuid::Uuid;

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

/// A certificate of the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnCertificate {
    /// That new connections are shown.
    Server,
    Authority,
}

impl OwnCertificate {
    /// The id of its notices: there is one of each kind.
    const fn id(self) -> Uuid {
        Uuid::from_u128(match self {
            Self::Server => 1,
            Self::Authority => 2,
        })
    }

    const fn holder(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Authority => "authority",
        }
    }
}

impl SystemScope {
    /// Reports once to the operator's tenant, which is the first one, that a certificate of the server ends within
    /// 7 days. True if it was reported now.
    pub async fn report_own_certificate(
        &self,
        certificate: OwnCertificate,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if expires_at > now.plus_ms(EXPIRY_WARNING_MS) {
            return Ok(false);
        }
        let Some(tenant) = self.first_tenant().await? else { return Ok(false) };
        let notice = key_notice::Model {
            key_id: certificate.id(),
            expires_at,
            tenant_id: tenant.id,
            sent_at: now,
        };
        self.writer
            .change(move |transaction| {
                let notice = notice.clone();
                Box::pin(async move {
                    let tenant_id = notice.tenant_id;
                    if !is_first(transaction, notice).await? {
                        return Ok(false);
                    }
                    add_events([IntegrationEvent {
                        tenant_id,
                        event: EventType::CertificateExpiring,
                        at: now,
                        subject_id: certificate.id(),
                        agent_id: None,
                        job_id: None,
                        data: json!({"certificate_id": null, "holder": certificate.holder(),
                            "holder_id": null, "expires_at": expires_at}),
                    }]);
                    Ok(true)
                })
            })
            .await
    }
}

/// Stores a notice; false if another server did.
async fn is_first(
    transaction: &DatabaseTransaction,
    notice: key_notice::Model,
) -> Result<bool, StoreError> {
    let known = OnConflict::columns([key_notice::Column::KeyId, key_notice::Column::ExpiresAt])
        .do_nothing()
        .to_owned();
    let stored = key_notice::Entity::insert_many([notice.into_active_model()])
        .on_conflict(known)
        .exec_without_returning(transaction)
        .await?;
    Ok(stored > 0)
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
    if !is_first(transaction, notice).await? {
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
