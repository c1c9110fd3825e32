//! Entries in all audit logs: the change of the key that signs them, and a restore.

use muster_protocol::audit::AuditAnchor;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use super::settings::put_setting;
use crate::domain::ids::TenantId;
use crate::store::StoreError;
use crate::store::entities::access::{audit_anchor, audit_entry, audit_head};
use crate::store::queries::SystemScope;
use crate::store::requester::write_audit;

impl SystemScope {
    /// Stores an entry in each of these logs. `progress` is a setting that is stored with them.
    pub async fn record_in_logs(
        &self,
        entries: Vec<audit_entry::Model>,
        progress: (&'static str, Vec<u8>),
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (entries, progress) = (entries.clone(), progress.clone());
                Box::pin(async move {
                    for entry in entries {
                        write_audit(transaction, entry).await?;
                    }
                    put_setting(transaction, progress.0, progress.1).await
                })
            })
            .await
    }

    /// Stores an entry in each log that still exists, so that the present key signs its last link, and signs
    /// where the logs start. `progress` is a setting that is stored with them. Returns the number of logs.
    pub async fn change_audit_key(
        &self,
        entries: Vec<audit_entry::Model>,
        progress: (&'static str, Vec<u8>),
    ) -> Result<u64, StoreError> {
        let keys = self.writer.audit().clone();
        self.writer
            .change(move |transaction| {
                let (entries, progress, keys) = (entries.clone(), progress.clone(), keys.clone());
                Box::pin(async move {
                    let ids: Vec<TenantId> = entries.iter().map(|entry| entry.tenant_id).collect();
                    let known: Vec<TenantId> = audit_head::Entity::find()
                        .select_only()
                        .column(audit_head::Column::TenantId)
                        .filter(audit_head::Column::TenantId.is_in(ids.iter().copied()))
                        .into_tuple()
                        .all(transaction)
                        .await?;
                    let anchors = audit_anchor::Entity::find()
                        .filter(audit_anchor::Column::TenantId.is_in(ids))
                        .all(transaction)
                        .await?;
                    for row in anchors {
                        let stored = keys.stored_anchor(&row).filter(AuditAnchor::is_signed);
                        // One that no key of this server has signed stays as it is, to be found.
                        let Some((anchor, key)) = stored.zip(keys.key()) else { continue };
                        let AuditAnchor { tenant_id, number, hash, .. } = anchor;
                        let signed = AuditAnchor::sign(&key, tenant_id, number, hash);
                        audit_anchor::Entity::update_many()
                            .col_expr(
                                audit_anchor::Column::Signature,
                                Expr::value(signed.signature),
                            )
                            .filter(audit_anchor::Column::TenantId.eq(row.tenant_id))
                            .exec(transaction)
                            .await?;
                    }
                    let mut count = 0;
                    for entry in entries {
                        if known.contains(&entry.tenant_id) {
                            write_audit(transaction, entry).await?;
                            count += 1;
                        }
                    }
                    put_setting(transaction, progress.0, progress.1).await?;
                    Ok(count)
                })
            })
            .await
    }
}
