//! Deletes the old history of a tenant while the server runs, in slices with pauses, because a person asked for it.
//! Any server may do so, and several at once: what one has deleted, another does not find.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{CLAIM_MS, Storage};
use crate::domain::access::principal::Scope;
use crate::domain::operations::storage::purge::StoragePurge;
use crate::domain::time::Timestamp;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::people::confirmation::require_confirmed_if_person;
use crate::services::access::work_guard::require_unlimited;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::queries::TenantRetention;

/// Longest age of history that a purge may keep: 100 years.
pub const MAX_PURGE_AGE_MS: u64 = 100 * 366 * 24 * 3_600_000;
/// After a purge the server measures if its last measurement is older.
const MEASURE_AGAIN_AFTER_MS: u64 = 60_000;
/// Requests of one round.
const PURGES_AT_ONCE: u64 = 10;
/// The pause after a slice is this many times as long as the slice took.
const PAUSE_FACTOR: u32 = 2;
/// Longest pause after a slice.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a purge would delete.
#[derive(Debug, Clone, Copy)]
pub struct PurgePreview {
    pub history_before: Timestamp,
    /// Executions and other commands.
    pub command_count: u64,
}

impl Storage {
    /// What a purge of everything that is older would delete.
    ///
    /// # Errors
    /// 403 without the scope `tenant:manage`; 422 names the field.
    pub async fn preview_purge(&self, caller: &Caller, older_than_ms: u64) -> Result<PurgePreview> {
        let history_before = self.purge_instant(caller, older_than_ms)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let command_count = tenant.ended_before(history_before).await?;
        Ok(PurgePreview { history_before, command_count })
    }

    /// Asks for the deletion of everything of the tenant that has ended and is older. The audit log stays.
    ///
    /// # Errors
    /// 403 without the scope `tenant:manage`, or without a confirmation of the person; 422 names the field.
    pub async fn request_purge(&self, caller: &Caller, older_than_ms: u64) -> Result<StoragePurge> {
        let history_before = self.purge_instant(caller, older_than_ms)?;
        require_unlimited(caller, "the history of all agents is deleted")?;
        require_confirmed_if_person(&self.store, &self.clock, caller).await?;
        let tenant_id = caller.principal.tenant_id;
        let now = self.clock.now();
        let purge = StoragePurge {
            tenant_id,
            history_before,
            requested_by: caller.principal.id,
            requested_at: now,
            finished_at: None,
        };
        let subject = Subject { kind: "tenant", id: tenant_id.0 };
        let audit = caller.audit("tenant.purge", subject, &json!({"before": history_before}), now);
        let purge = self.store.tenant(tenant_id).request_storage_purge(purge, audit).await?;
        self.purge_requested.notify_one();
        Ok(purge)
    }

    /// Waits until a person asks this server for a purge.
    pub async fn purge_requested(&self) {
        self.purge_requested.notified().await;
    }

    /// Deletes what people have asked for, and measures what is left.
    ///
    /// # Errors
    /// [`StoreError`]; the next round continues.
    pub async fn purge_due(&self) -> std::result::Result<(), StoreError> {
        let system = self.store.system();
        let open = system.open_storage_purges(PURGES_AT_ONCE).await?;
        if open.is_empty() {
            return Ok(());
        }
        // One slice of each in turn, so that no tenant waits for another one.
        let mut open: VecDeque<StoragePurge> = open.into();
        while let Some(purge) = open.pop_front() {
            let started = Instant::now();
            if system.drop_old_of_tenant(retention_of(&purge)).await? {
                open.push_back(purge);
                // The writer is free for others meanwhile.
                tokio::time::sleep((started.elapsed() * PAUSE_FACTOR).min(LONGEST_PAUSE)).await;
                continue;
            }
            system.finish_storage_purge(purge, self.clock.now()).await?;
            let StoragePurge { tenant_id, history_before, .. } = purge;
            tracing::info!(%tenant_id, %history_before, "deleted old history on request");
        }
        // Quotas count what is measured. Requests can't make the server measure all the time.
        let now = self.clock.now();
        let due = now.minus_ms(MEASURE_AGAIN_AFTER_MS);
        if system.claim_storage_measurement(now, due, now.plus_ms(CLAIM_MS)).await? {
            self.measure(true).await?;
        }
        Ok(())
    }

    fn purge_instant(&self, caller: &Caller, older_than_ms: u64) -> Result<Timestamp> {
        caller.require(Scope::TenantManage)?;
        match older_than_ms > MAX_PURGE_AGE_MS {
            true => {
                let bounds = 0..=MAX_PURGE_AGE_MS;
                Err(ServiceError::out_of_range("older_than_ms", older_than_ms, bounds))
            }
            false => Ok(self.clock.now().minus_ms(older_than_ms)),
        }
    }
}

fn retention_of(purge: &StoragePurge) -> TenantRetention {
    TenantRetention {
        tenant_id: purge.tenant_id,
        history_before: purge.history_before,
        deliveries_before: purge.history_before,
        // They keep a delivery from being taken twice, and go with the retention of the server.
        hook_deliveries_before: Timestamp(0),
    }
}
