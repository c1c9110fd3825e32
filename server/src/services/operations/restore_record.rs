//! Records a restore in the audit logs, when the restored database is opened for the first time.

use serde_json::{Value, json};

use super::audit_key::NO_TENANT;
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::restore_note::{RESTORE_NOTE, RestoreNote};
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::entities::access::audit_entry;
use crate::store::{Store, StoreError};

/// The last tenant whose log has the entry.
const PROGRESS: &str = "restore_note_progress";
/// Logs of one transaction.
const SLICE: u64 = 100;

/// Stores an entry about the restore in each log, if there was one. It may be interrupted: the next call
/// finishes it.
///
/// # Errors
/// [`StoreError`].
pub async fn record(store: &Store) -> Result<(), StoreError> {
    let system = store.system();
    let Some(note) = system.setting(RESTORE_NOTE).await? else { return Ok(()) };
    let Ok(note) = serde_json::from_slice::<RestoreNote>(&note) else {
        tracing::error!("the note about the restore can't be read");
        return system.replace_settings(vec![(RESTORE_NOTE, None), (PROGRESS, None)]).await;
    };
    let progress = system.setting(PROGRESS).await?;
    let mut after = progress.and_then(|id| uuid::Uuid::from_slice(&id).ok()).map(TenantId);
    loop {
        let mut tenants = system.audited_tenants(after, SLICE).await?;
        // The operator's own log may have no entry yet.
        if after.is_none() && !tenants.contains(&NO_TENANT) {
            tenants.insert(0, NO_TENANT);
        }
        let Some(last) = tenants.last().copied() else { break };
        let entries = tenants.iter().map(|id| entry(*id, &note)).collect();
        system.record_in_logs(entries, (PROGRESS, last.0.as_bytes().to_vec())).await?;
        after = Some(last);
    }
    system.replace_settings(vec![(RESTORE_NOTE, None), (PROGRESS, None)]).await
}

fn entry(tenant_id: TenantId, note: &RestoreNote) -> audit_entry::Model {
    let action = AuditAction {
        tenant_id,
        action: "server.restore",
        subject: Subject { kind: "server", id: tenant_id.0 },
        detail: &detail(tenant_id, note),
        at: note.restored_at,
    };
    let actor_id = Some(PrincipalId::OPERATOR.0);
    audit_entry::Model { actor_kind: ActorKind::Operator, actor_id, ..action.by_system() }
}

/// Users and files of the machine are for the operator only.
fn detail(tenant_id: TenantId, note: &RestoreNote) -> Value {
    let mut detail = json!({
        "backup_created_at": note.backup_created_at,
        "backup_version": note.backup_version,
    });
    if tenant_id == NO_TENANT {
        detail["file"] = json!(note.file);
        detail["user"] = json!(note.user);
    }
    detail
}
