//! Reads the audit log, exports it and checks its hash chain.

mod export;
mod follow;
pub(in crate::services) mod retention;
mod verification;

use muster_protocol::audit::AuditHead;

pub use self::export::{AuditExport, ExportLine};
pub use self::follow::{AuditStream, FollowedEntry};
pub use self::verification::VerifiedPart;
use super::caller::Caller;
use super::stream_permits::StreamPermits;
use crate::domain::access::audit::{AuditFilter, AuditPosition};
use crate::domain::access::principal::Scope;
use crate::domain::access::records::AuditRecord;
use crate::domain::ids::TenantId;
use crate::domain::page::Page;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::audit_link::stored_hash;
use crate::store::queries::AuditRange;
use crate::store::{Store, StoreError, TenantScope};

/// Use cases of the audit log. Each service writes the entries of its own changes.
#[derive(Clone, Debug)]
pub struct AuditLog {
    pub(in crate::services) store: Store,
    pub(in crate::services) viewers: StreamPermits,
}

impl AuditLog {
    /// One page of entries that match, newest first. A filter that matches few entries gives shorter pages.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: u64,
    ) -> Result<Page<AuditRecord>> {
        caller.require(Scope::AuditRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let page = tenant.audit_entries(filter, AuditRange::Before(before), limit);
        let mut page = page.await?;
        tenant.name_audit_entries(&mut page.entries).await?;
        let next_cursor = page.next.map(|position| position.to_string());
        Ok(Page { items: page.entries, next_cursor })
    }

    /// The signed last link of the log.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] while the log is empty.
    pub async fn head(&self, caller: &Caller) -> Result<AuditHead> {
        caller.require(Scope::AuditRead)?;
        let tenant_id = caller.principal.tenant_id;
        let head = read_head(&self.store.tenant(tenant_id), tenant_id).await?;
        head.ok_or(ServiceError::NotFound("audit entry"))
    }
}

/// The last link as it is stored, with the public key of this server.
async fn read_head(
    tenant: &TenantScope,
    tenant_id: TenantId,
) -> std::result::Result<Option<AuditHead>, StoreError> {
    let Some(key) = tenant.audit_key() else { return Ok(None) };
    let head = tenant.audit_head().await?.map(|row| AuditHead {
        tenant_id: tenant_id.0,
        number: row.number.cast_unsigned(),
        hash: stored_hash(&row.hash),
        public_key: key.public_key(),
        signature: row.signature,
    });
    Ok(head)
}
