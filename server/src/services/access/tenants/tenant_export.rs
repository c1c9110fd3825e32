//! The export of a tenant: lines of JSON, read page by page while they are sent.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::administration::subject;
use crate::domain::access::principal::Scope;
use crate::domain::time::{Clock, Timestamp};
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{EXPORTED_TABLES, TenantScope};
use crate::store::writer::AppendAudit;
use crate::store::{Store, StoreError};

/// Exports at the same time, of all tenants together: each reads a whole history.
pub(in crate::services) const MAX_EXPORTS: usize = 4;
/// Version of the lines.
const VERSION: u32 = 1;

/// The use case of exports.
#[derive(Clone, Debug)]
pub struct TenantExports {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) running: Arc<Semaphore>,
}

/// One export. It holds one page at a time.
#[derive(Debug)]
pub struct TenantExport {
    scope: TenantScope,
    header: Option<Value>,
    /// Of [`EXPORTED_TABLES`].
    table: usize,
    after: Option<Uuid>,
    lines: u64,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

impl TenantExports {
    /// Starts an export of the caller's tenant.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`] `too_many_exports`.
    pub async fn start(&self, caller: &Caller) -> Result<TenantExport> {
        caller.require(Scope::TenantManage)?;
        let permit = Arc::clone(&self.running).try_acquire_owned();
        let permit = permit.map_err(|_| ServiceError::TooMany {
            code: "too_many_exports",
            detail: "other exports are being read; try again in a few minutes",
        })?;
        let (id, now) = (caller.principal.tenant_id, self.clock.now());
        let entry = caller.audit("tenant.export", subject(id), &json!({}), now);
        self.store.writer().commit(AppendAudit(entry)).await?;
        let header = header(id.0, now);
        let scope = self.store.tenant(id);
        Ok(TenantExport {
            scope,
            header: Some(header),
            table: 0,
            after: None,
            lines: 0,
            is_over: false,
            _permit: permit,
        })
    }
}

fn header(tenant_id: Uuid, at: Timestamp) -> Value {
    let server = env!("CARGO_PKG_VERSION");
    json!({"type": "export", "version": VERSION, "tenant_id": tenant_id, "started_at": at,
        "server_version": server})
}

impl TenantExport {
    /// The next lines; `None` after the last.
    ///
    /// # Errors
    /// [`StoreError`]; the export is incomplete then, and has no line of the type `end`.
    pub async fn next(&mut self) -> std::result::Result<Option<Bytes>, StoreError> {
        if let Some(header) = self.header.take() {
            return Ok(Some(self.written([header])));
        }
        while let Some(table) = EXPORTED_TABLES.get(self.table) {
            let page = self.scope.export_page(table, self.after).await?;
            self.after = page.next;
            if page.next.is_none() {
                self.table += 1;
            }
            if !page.rows.is_empty() {
                let rows = page.rows.into_iter().map(|(table, mut row)| {
                    row.insert("type".into(), table.into());
                    Value::Object(row)
                });
                return Ok(Some(self.written(rows)));
            }
        }
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(None);
        }
        let end = json!({"type": "end", "lines": self.lines});
        Ok(Some(self.written([end])))
    }

    fn written(&mut self, values: impl IntoIterator<Item = Value>) -> Bytes {
        let mut text = String::new();
        for value in values {
            text.push_str(&value.to_string());
            text.push('\n');
            self.lines += 1;
        }
        text.into()
    }
}
