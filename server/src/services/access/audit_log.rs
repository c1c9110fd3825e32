//! Reads the audit log.

use super::caller::Caller;
use crate::domain::access::principal::Scope;
use crate::domain::access::records::AuditRecord;
use crate::domain::page::{Page, PageRequest};
use crate::services::error::Result;
use crate::store::Store;

/// Use cases of the audit log. Each service writes the entries of its own changes.
#[derive(Clone, Debug)]
pub struct AuditLog {
    pub(in crate::services) store: Store,
}

impl AuditLog {
    /// One page of entries, newest first.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<AuditRecord>> {
        caller.require(Scope::AuditRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).audit_entries(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(AuditRecord::from))
    }
}
