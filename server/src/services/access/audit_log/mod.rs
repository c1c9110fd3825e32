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
use crate::domain::access::audit::{AuditFilter, AuditPosition, LogOwner};
use crate::domain::access::records::AuditRecord;
use crate::domain::ids::TenantId;
use crate::domain::page::Page;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::queries::AuditRange;

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
        owner: LogOwner,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: u64,
    ) -> Result<Page<AuditRecord>> {
        let tenant = self.store.tenant(owned_by(owner, caller)?);
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
    pub async fn head(&self, caller: &Caller, owner: LogOwner) -> Result<AuditHead> {
        let tenant_id = owned_by(owner, caller)?;
        let head = self.store.tenant(tenant_id).audit_head().await?;
        head.ok_or(ServiceError::NotFound("audit entry"))
    }
}

/// The id of the entries of a log, if the caller may read it.
fn owned_by(owner: LogOwner, caller: &Caller) -> Result<TenantId> {
    caller.require(owner.scope())?;
    Ok(owner.tenant_id(caller.principal.tenant_id))
}
