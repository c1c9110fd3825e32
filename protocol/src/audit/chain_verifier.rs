//! Checks the links of a log and its entries, in order, and names what does not fit.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AuditHash, AuditHead, AuditLink};

/// Most findings that are named. The others are counted.
const MAX_FINDINGS: usize = 100;

/// What is wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An entry of a link is not stored.
    EntryRemoved,
    /// An entry is stored with other content.
    EntryChanged,
    /// A stored entry belongs to no link.
    EntryInserted,
    /// An entry is stored under another link than its own.
    EntryMoved,
    /// A link is not stored.
    LinkRemoved,
    /// A link has other content than its hash, or does not follow the link before it.
    LinkChanged,
    /// A link is stored where none belongs, or out of order.
    LinkInserted,
    /// The log ends before a head that the server has signed.
    Truncated,
    /// The log has another link than a head that the server has signed.
    HeadMismatch,
    /// A head or an anchor is not signed by the server's key.
    SignatureInvalid,
    /// The server found, when it wrote this link, that the log before it was changed.
    BreakRecorded,
}

impl FindingKind {
    /// True for what the log itself says: the server has found and recorded it before.
    pub const fn is_recorded(self) -> bool {
        matches!(self, Self::BreakRecorded)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// The number of the link.
    pub link: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<Uuid>,
    /// A sentence for people.
    pub message: String,
}

/// An entry as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEntry {
    pub id: Uuid,
    /// The link that it is stored under.
    pub link: u64,
    /// Of its stored content.
    pub digest: AuditHash,
    /// True if it is an entry `audit.break`.
    pub is_break: bool,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChain {
    pub links: u64,
    pub entries: u64,
    /// The position of the last link.
    pub last_number: u64,
    pub last_hash: AuditHash,
    /// In the order of the links, at most 100.
    pub findings: Vec<Finding>,
    /// All findings, also those that are not named.
    pub finding_count: u64,
}

/// Checks one link after the other.
#[derive(Debug)]
pub struct ChainVerifier {
    tenant_id: Uuid,
    number: u64,
    hash: AuditHash,
    links: u64,
    entries: u64,
    findings: Vec<Finding>,
    finding_count: u64,
    kept: Option<AuditHead>,
}

impl ChainVerifier {
    /// Starts behind a link: number 0 and zeros for a whole log. `kept`: a head that must be part of the
    /// log.
    pub fn new(tenant_id: Uuid, number: u64, hash: AuditHash, kept: Option<AuditHead>) -> Self {
        let (links, entries, finding_count) = (0, 0, 0);
        let findings = Vec::new();
        let mut verifier =
            Self { tenant_id, number, hash, links, entries, findings, finding_count, kept };
        verifier.compare_with_kept(number, hash);
        verifier
    }

    /// Checks the next link and the entries that are stored under it.
    pub fn check(&mut self, link: &AuditLink, stored: &[StoredEntry]) {
        self.links += 1;
        if link.number <= self.number {
            let message = format!("link {} is out of order", link.number);
            return self.add(FindingKind::LinkInserted, link.number, None, message);
        }
        if link.number > self.number + 1 {
            let (first, last) = (self.number + 1, link.number - 1);
            let message = match first == last {
                true => format!("link {first} was removed"),
                false => format!("links {first} to {last} were removed"),
            };
            self.add(FindingKind::LinkRemoved, first, None, message);
        } else if link.previous_hash != self.hash {
            let message = format!("link {} does not follow the link before it", link.number);
            self.add(FindingKind::LinkChanged, link.number, None, message);
        }
        if link.computed_hash(self.tenant_id) != link.hash {
            let message = format!("link {} was changed: it has another hash", link.number);
            self.add(FindingKind::LinkChanged, link.number, None, message);
        }
        self.check_entries(link, stored);
        (self.number, self.hash) = (link.number, link.hash);
        self.compare_with_kept(link.number, link.hash);
    }

    fn check_entries(&mut self, link: &AuditLink, stored: &[StoredEntry]) {
        self.entries += stored.len() as u64;
        let breaks: Vec<Uuid> =
            stored.iter().filter(|entry| entry.is_break).map(|entry| entry.id).collect();
        let stored: BTreeMap<Uuid, AuditHash> =
            stored.iter().map(|entry| (entry.id, entry.digest)).collect();
        for entry in &link.entries {
            match stored.get(&entry.id) {
                None => self.add_entry(FindingKind::EntryRemoved, link.number, entry.id),
                Some(digest) if *digest != entry.digest => {
                    self.add_entry(FindingKind::EntryChanged, link.number, entry.id);
                }
                Some(_) => {}
            }
        }
        for entry in breaks {
            let message = format!(
                "link {}: the server found that the log before it was changed; nothing before it is proven",
                link.number
            );
            self.add(FindingKind::BreakRecorded, link.number, Some(entry), message);
        }
        let known: BTreeSet<Uuid> = link.entries.iter().map(|entry| entry.id).collect();
        for id in stored.keys().filter(|id| !known.contains(id)) {
            self.add_entry(FindingKind::EntryInserted, link.number, *id);
        }
    }

    /// Records an entry that is stored under a link that does not exist.
    pub fn add_unlinked(&mut self, entry: StoredEntry) {
        self.entries += 1;
        self.add_entry(FindingKind::EntryInserted, entry.link, entry.id);
    }

    /// Checks that the log ends with this head, which `public_key` has signed.
    pub fn check_head(&mut self, head: &AuditHead) {
        if !head.is_signed() || head.tenant_id != self.tenant_id {
            let message = "the head is not signed by the server's key".to_owned();
            self.add(FindingKind::SignatureInvalid, head.number, None, message);
        }
        if head.number > self.number {
            let message = format!(
                "the log ends with link {}, and the server signed link {} as its last: later links were removed",
                self.number, head.number
            );
            self.add(FindingKind::Truncated, self.number, None, message);
        } else if head.number < self.number || head.hash != self.hash {
            let message = format!("link {} is not the one that the server signed", head.number);
            self.add(FindingKind::HeadMismatch, head.number, None, message);
        }
    }

    /// Records something that the caller found.
    pub fn add(&mut self, kind: FindingKind, link: u64, entry_id: Option<Uuid>, message: String) {
        self.finding_count += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { kind, link, entry_id, message });
        }
    }

    /// Ends the check. If `is_complete`, the log must contain the kept head.
    pub fn finish(mut self, is_complete: bool) -> VerifiedChain {
        if is_complete && let Some(kept) = self.kept.take() {
            let (kind, message) = match kept.number > self.number {
                true => (
                    FindingKind::Truncated,
                    format!(
                        "the log ends with link {}, and the kept head is of link {}: later links were removed",
                        self.number, kept.number
                    ),
                ),
                false => (
                    FindingKind::HeadMismatch,
                    format!("link {} of the kept head is not in the log", kept.number),
                ),
            };
            self.add(kind, kept.number, None, message);
        }
        self.name_moved_entries();
        VerifiedChain {
            links: self.links,
            entries: self.entries,
            last_number: self.number,
            last_hash: self.hash,
            findings: self.findings,
            finding_count: self.finding_count,
        }
    }

    /// An entry that is missing in one link and is stored under another was moved.
    fn name_moved_entries(&mut self) {
        let of = |kind: FindingKind, findings: &[Finding]| -> BTreeMap<Uuid, u64> {
            let of_kind = findings.iter().filter(|finding| finding.kind == kind);
            of_kind.filter_map(|finding| Some((finding.entry_id?, finding.link))).collect()
        };
        let removed = of(FindingKind::EntryRemoved, &self.findings);
        let inserted = of(FindingKind::EntryInserted, &self.findings);
        for finding in &mut self.findings {
            let Some(id) = finding.entry_id else { continue };
            let Some((from, to)) = removed.get(&id).zip(inserted.get(&id)) else { continue };
            finding.kind = FindingKind::EntryMoved;
            finding.link = *from;
            finding.message = format!("entry {id} of link {from} is stored under link {to}");
        }
        // Both halves are the same finding now.
        let before = self.findings.len();
        let mut seen = BTreeSet::new();
        self.findings.retain(|finding| {
            finding.kind != FindingKind::EntryMoved || seen.insert(finding.entry_id)
        });
        self.finding_count -= (before - self.findings.len()) as u64;
    }

    fn add_entry(&mut self, kind: FindingKind, link: u64, id: Uuid) {
        let message = match kind {
            FindingKind::EntryRemoved => format!("entry {id} of link {link} was removed"),
            FindingKind::EntryChanged => format!("entry {id} of link {link} was changed"),
            _ => format!(
                "entry {id} was inserted: it is stored under link {link}, to which it does not belong"
            ),
        };
        self.add(kind, link, Some(id), message);
    }

    fn compare_with_kept(&mut self, number: u64, hash: AuditHash) {
        let Some(kept) = &self.kept else { return };
        if kept.number != number {
            return;
        }
        if kept.hash != hash || kept.tenant_id != self.tenant_id {
            let message =
                format!("link {number} is not the one of the kept head: the log was rewritten");
            self.add(FindingKind::HeadMismatch, number, None, message);
        }
        self.kept = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::LinkedEntry;
    use crate::identity::AgentKeyPair;

    const TENANT: Uuid = Uuid::from_u128(1);

    fn entry(number: u64, content: u8) -> LinkedEntry {
        LinkedEntry {
            id: Uuid::from_u128(number.into()),
            digest: AuditHash::from_bytes([content; 32]),
        }
    }

    /// Three links with an entry each.
    fn log() -> Vec<AuditLink> {
        let mut hash = AuditHash::default();
        let links = (1..=3).map(|number| {
            let link = AuditLink::new(TENANT, number, hash, vec![entry(number, 7)]);
            hash = link.hash;
            link
        });
        links.collect()
    }

    fn head_of(link: &AuditLink) -> AuditHead {
        let pair = AgentKeyPair::from_seed(&[1; 32]).expect("a seed");
        AuditHead::sign(&pair, TENANT, link.number, link.hash)
    }

    /// The findings in a log whose entries are stored as its links say.
    fn findings(links: &[AuditLink], head: &AuditHead) -> Vec<(FindingKind, u64)> {
        let mut verifier = ChainVerifier::new(TENANT, 0, AuditHash::default(), None);
        for link in links {
            let stored = |entry: &LinkedEntry| StoredEntry {
                id: entry.id,
                link: link.number,
                digest: entry.digest,
                is_break: false,
            };
            verifier.check(link, &link.entries.iter().map(stored).collect::<Vec<_>>());
        }
        verifier.check_head(head);
        let found = verifier.finish(true).findings;
        found.iter().map(|finding| (finding.kind, finding.link)).collect()
    }

    #[test]
    fn a_link_that_was_rewritten_does_not_fit_the_next_link_or_the_head() {
        let links = log();
        let head = head_of(&links[2]);
        assert_eq!(findings(&links, &head), []);

        // With the hash that it had.
        let mut changed = links.clone();
        changed[1].entries = vec![entry(2, 8)];
        assert_eq!(findings(&changed, &head), [(FindingKind::LinkChanged, 2)]);

        // With a hash of its own, so that the next link does not follow it.
        changed[1] = AuditLink::new(TENANT, 2, links[0].hash, vec![entry(2, 8)]);
        assert_eq!(findings(&changed, &head), [(FindingKind::LinkChanged, 3)]);

        // With the links behind it, so that only the signed head is another one.
        changed[2] = AuditLink::new(TENANT, 3, changed[1].hash, vec![entry(3, 7)]);
        assert_eq!(findings(&changed, &head), [(FindingKind::HeadMismatch, 3)]);
        let forged = AuditHead { hash: changed[2].hash, ..head };
        assert_eq!(findings(&changed, &forged), [(FindingKind::SignatureInvalid, 3)]);
    }

    #[test]
    fn a_log_that_ends_before_its_signed_head_was_cut_off() {
        let links = log();
        assert_eq!(findings(&links[..2], &head_of(&links[2])), [(FindingKind::Truncated, 2)]);
        assert_eq!(findings(&links, &head_of(&links[1])), [(FindingKind::HeadMismatch, 2)]);
    }
}
