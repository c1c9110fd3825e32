//! Checks the hash chain part by part, each with bounded work, on connections that only read.

use std::collections::BTreeMap;

use muster_protocol::audit::{
    AuditHash, AuditHead, AuditLink, BREAK_ACTION, ChainVerifier, FindingKind, StoredEntry,
    VerifiedChain,
};

use super::{AuditLog, owned_by};
use crate::domain::access::audit::{AuditPosition, LogOwner};
use crate::domain::access::records::AuditRecord;
use crate::domain::ids::TenantId;
use crate::services::access::caller::Caller;
use crate::services::error::Result;
use crate::store::{StoreError, TenantScope};

/// Most links of a part.
pub(super) const MAX_LINKS: u64 = 200;
/// A part ends with the link that brings it to this many entries.
const ENTRIES: usize = 2_000;
/// Most entries that a part reads: more than its links can have, so that inserted ones are found.
const MAX_READ: u64 = 4_000;
/// Most entries without a link that are named at the end of the log.
const MAX_STRAY: u64 = 100;

/// The result for a part of the log.
#[derive(Debug)]
pub struct VerifiedPart {
    pub chain: VerifiedChain,
    /// The link before the part.
    pub after: u64,
    /// The link that the next part starts behind; `None` at the end of the log, whose head was checked.
    pub next_after: Option<u64>,
    /// The last link when the check started.
    pub head: Option<AuditHead>,
}

/// Links with the entries that are stored under them.
pub(super) struct Part {
    pub links: Vec<AuditLink>,
    /// By the number of the link, also of links that are not stored.
    pub entries: BTreeMap<u64, Vec<AuditRecord>>,
    /// The last link that was read.
    pub last: u64,
    pub is_end: bool,
}

impl AuditLog {
    /// Checks the part of the log behind a link; 0 for its start. Each part is small, so that a large log
    /// does not delay other requests.
    pub async fn verify(
        &self,
        caller: &Caller,
        owner: LogOwner,
        after: u64,
    ) -> Result<VerifiedPart> {
        let tenant_id = owned_by(owner, caller)?;
        let tenant = self.store.tenant(tenant_id);
        let head = tenant.audit_head().await?;
        let until = head.as_ref().map_or(0, |head| head.number);
        let anchor = tenant.audit_anchor().await?;
        let start = anchor.as_ref().map_or(0, |anchor| anchor.number);
        let after = after.max(start);
        let part = read_part(&tenant, (start, after), until).await?;
        let hash = match &anchor {
            Some(anchor) if after == start => anchor.hash,
            None if after == 0 => AuditHash::default(),
            _ => hash_before(&tenant, after, &part).await?,
        };
        let mut verifier = ChainVerifier::new(tenant_id.0, after, hash, None);
        if let Some(anchor) = anchor.filter(|anchor| after == start && !anchor.is_signed()) {
            let message =
                "the anchor, where retention cut the log, is not signed by the server's key";
            verifier.add(FindingKind::SignatureInvalid, anchor.number, None, message.to_owned());
        }
        let mut entries = part.entries;
        for link in &part.links {
            let stored = entries.remove(&link.number).unwrap_or_default();
            verifier.check(link, &stored_entries(&stored, tenant_id));
        }
        for stray in entries.into_values().flatten() {
            verifier.add_unlinked(stored_entry(&stray, tenant_id));
        }
        match &head {
            Some(head) if part.is_end => verifier.check_head(head),
            Some(_) => {}
            None if owner == LogOwner::Server => {}
            // A tenant's log starts with its creation.
            None => {
                let message = "the whole log was removed".to_owned();
                verifier.add(FindingKind::Truncated, 0, None, message);
            }
        }
        let chain = verifier.finish(part.is_end);
        let next_after = (!part.is_end).then_some(part.last);
        Ok(VerifiedPart { chain, after, next_after, head })
    }
}

/// The hash of the link before a part. If it is not stored, the part before has reported that.
async fn hash_before(
    tenant: &TenantScope,
    number: u64,
    part: &Part,
) -> std::result::Result<AuditHash, StoreError> {
    let stored = tenant.audit_links(number.saturating_sub(1), number, 1).await?.pop();
    let next = part.links.first().map(|link| link.previous_hash);
    Ok(stored.map(|link| link.hash).or(next).unwrap_or_default())
}

/// Reads the links behind `after`, and what is stored under them. `start`: the link behind which the log
/// starts.
pub(super) async fn read_part(
    tenant: &TenantScope,
    (start, after): (u64, u64),
    until: u64,
) -> std::result::Result<Part, StoreError> {
    let mut links = tenant.audit_links(after, until, MAX_LINKS).await?;
    let mut is_end = (links.len() as u64) < MAX_LINKS;
    let mut count = 0;
    let fitting = links.iter().take_while(|link| {
        let has_room = count < ENTRIES;
        count += link.entries.len();
        has_room
    });
    let fitting = fitting.count();
    is_end &= fitting == links.len();
    links.truncate(fitting);
    // At the end, also what is stored under removed links.
    let mut last =
        if is_end { until.max(after) } else { links.last().map_or(after, |link| link.number) };
    let mut rows = tenant.audit_entries_of_links(after + 1, last, MAX_READ + 1).await?;
    if rows.len() as u64 > MAX_READ
        && let Some(cut) = rows.pop().map(|row| row.link - 1)
        && cut > after
    {
        rows.retain(|row| row.link <= cut);
        links.retain(|link| link.number <= cut);
        (last, is_end) = (cut, false);
    }
    if is_end {
        rows.extend(read_strays(tenant, last).await?);
    }
    if after == start {
        let first = i64::MIN.cast_unsigned();
        rows.extend(tenant.audit_entries_of_links(first, start, MAX_STRAY).await?);
    }
    let mut entries: BTreeMap<u64, Vec<AuditRecord>> = BTreeMap::new();
    for row in rows {
        entries.entry(row.link).or_default().push(row);
    }
    Ok(Part { links, entries, last, is_end })
}

/// Entries under links behind the last one, which no commit has written.
async fn read_strays(
    tenant: &TenantScope,
    last: u64,
) -> std::result::Result<Vec<AuditRecord>, StoreError> {
    let first = last + 1;
    let mut found =
        tenant.audit_entries_of_links(first, i64::MAX.cast_unsigned(), MAX_STRAY).await?;
    if found.is_empty() {
        return Ok(found);
    }
    // Read after the entries: what was committed with them is not behind this head.
    let head = tenant.audit_head().await?;
    found.retain(|entry| entry.link > head.as_ref().map_or(0, |head| head.number));
    Ok(found)
}

pub(super) fn stored_entries(entries: &[AuditRecord], tenant_id: TenantId) -> Vec<StoredEntry> {
    entries.iter().map(|entry| stored_entry(entry, tenant_id)).collect()
}

fn stored_entry(entry: &AuditRecord, tenant_id: TenantId) -> StoredEntry {
    let AuditPosition { link, id } = entry.position();
    let is_break = entry.action == BREAK_ACTION;
    StoredEntry { id, link, digest: entry.digest(tenant_id), is_break }
}
