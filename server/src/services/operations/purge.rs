//! Deletes old history at once, and gives its space back to the system. The server is stopped meanwhile: it
//! deletes in small slices by itself, and never rewrites its database.

use serde_json::json;

use super::audit_key::NO_TENANT;
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::PrincipalId;
use crate::domain::time::{Clock, Timestamp};
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::entities::access::audit_entry;
use crate::store::queries::Retention;
use crate::store::{Store, StoreError};

/// What a purge has freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// Size of the database, without the log of SQLite.
    pub database_before_bytes: u64,
    pub database_after_bytes: u64,
    /// Size of the files of compacted output.
    pub output_before_bytes: u64,
    pub output_after_bytes: u64,
}

/// Deletes everything that has ended before an instant, with its output, and rewrites the database. It may be
/// interrupted: the next call continues.
///
/// # Errors
/// [`StoreError`].
pub async fn purge(store: &Store, clock: &Clock, before: Timestamp) -> Result<Purged, StoreError> {
    let system = store.system();
    let (database_before_bytes, output_before_bytes) =
        (system.database_bytes().await?, system.output_stored_bytes().await?);
    // First, so that a purge that is interrupted is in the log, too.
    system.record(entry(clock.now(), before)).await?;
    let retention = Retention {
        telemetry_before: before,
        idempotency_before: before,
        history_before: before,
        deliveries_before: before,
    };
    while system.drop_old(retention).await? {}
    system.give_space_back().await?;
    Ok(Purged {
        database_before_bytes,
        database_after_bytes: system.database_bytes().await?,
        output_before_bytes,
        output_after_bytes: system.output_stored_bytes().await?,
    })
}

fn entry(at: Timestamp, before: Timestamp) -> audit_entry::Model {
    let action = AuditAction {
        tenant_id: NO_TENANT,
        action: "server.purge",
        subject: Subject { kind: "server", id: NO_TENANT.0 },
        detail: &json!({ "before": before }),
        at,
    };
    let actor_id = Some(PrincipalId::OPERATOR.0);
    audit_entry::Model { actor_kind: ActorKind::Operator, actor_id, ..action.by_system() }
}
