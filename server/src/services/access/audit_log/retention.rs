//! Removes the oldest links of audit logs. What stays can still be checked: the server signs where the log
//! starts from then on, and the log has an entry about it.

use muster_protocol::audit::{AuditAnchor, ChainVerifier};
use serde_json::json;

use super::verification::{read_part, stored_entries};
use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::{Store, StoreError, TenantScope};

/// Links are removed once they are older than retention by this: 1 day. Each removal is itself an entry.
const SLACK_MS: u64 = 24 * 3_600_000;
/// Tenants that are read at once.
const TENANTS: u64 = 500;
/// Most parts of one log that one run removes.
const MAX_REMOVED_PARTS: u32 = 100;

/// Removes entries from before an instant from every log. Returns the number of parts.
///
/// # Errors
/// [`StoreError`]; the next run continues.
pub(in crate::services) async fn remove_old(
    store: &Store,
    before: Timestamp,
    now: Timestamp,
) -> Result<u32, StoreError> {
    let (mut last, mut parts) = (None, 0);
    loop {
        let tenants = store.system().audited_tenants(last, TENANTS).await?;
        let Some(next) = tenants.last() else { return Ok(parts) };
        last = Some(*next);
        for tenant_id in tenants {
            let tenant = store.tenant(tenant_id);
            let mut oldest = before.minus_ms(SLACK_MS);
            for _ in 0..MAX_REMOVED_PARTS {
                if !remove_part(&tenant, tenant_id, (oldest, before), now).await? {
                    break;
                }
                // What follows belongs to the same removal.
                oldest = before;
                parts += 1;
            }
        }
    }
}

/// Removes the links at the start of a log of which every entry is from before an instant, if the first
/// link is older than `oldest`. False if there was none.
async fn remove_part(
    tenant: &TenantScope,
    tenant_id: TenantId,
    (oldest, before): (Timestamp, Timestamp),
    now: Timestamp,
) -> Result<bool, StoreError> {
    let (Some(key), Some(head)) = (tenant.audit_key(), tenant.audit_head().await?) else {
        return Ok(false);
    };
    let anchor = tenant.audit_anchor().await?;
    let start = anchor.as_ref().map_or(0, |anchor| anchor.number);
    let first = tenant.audit_entries_of_links(start + 1, start + 1, 1).await?.pop();
    if first.is_some_and(|entry| entry.at >= oldest) {
        return Ok(false);
    }
    // The last link stays: it is what the signed head says.
    let until = head.number.saturating_sub(1);
    let part = read_part(tenant, (start, start), until).await?;
    let hash = anchor.as_ref().map(|anchor| anchor.hash).unwrap_or_default();
    let mut verifier = ChainVerifier::new(tenant_id.0, start, hash, None);
    let mut entries = part.entries;
    let (mut last, mut entry_count) = (None, 0_usize);
    for link in &part.links {
        let stored = entries.remove(&link.number).unwrap_or_default();
        if stored.iter().any(|entry| entry.at >= before) {
            break;
        }
        verifier.check(link, &stored_entries(&stored, tenant_id));
        entry_count += stored.len();
        last = Some((link.number, link.hash));
    }
    let Some((number, hash)) = last else { return Ok(false) };
    let is_anchored = anchor.is_none_or(|anchor| anchor.is_signed());
    let findings = verifier.finish(false).findings;
    if !is_anchored || findings.iter().any(|finding| !finding.kind.is_recorded()) {
        // A removal would hide what is wrong.
        tracing::error!(%tenant_id, after = start, "old audit entries stay: a check of them finds that they were changed");
        return Ok(false);
    }
    let detail = json!({ "through_link": number, "hash": hash.to_string(), "entries": entry_count,
        "before": before.to_string() });
    let entry = AuditAction {
        tenant_id,
        action: "audit.remove",
        subject: Subject { kind: "audit", id: tenant_id.0 },
        detail: &detail,
        at: now,
    };
    let anchor = AuditAnchor::sign(&key, tenant_id.0, number, hash);
    tenant.remove_audit_links(start, anchor, entry.by_system()).await
}
