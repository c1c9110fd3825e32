//! The log as lines, oldest first: links with their entries, and the signed head at the end. With a filter
//! only the entries that match, which can't be checked without the others.

use std::collections::VecDeque;

use muster_protocol::audit::{AuditAnchor, AuditHead, AuditLink};
use muster_protocol::identity::AgentPublicKey;

use super::verification::read_part;
use super::{AuditLog, owned_by};
use crate::domain::access::audit::{AuditFilter, AuditPosition, LogOwner};
use crate::domain::access::records::AuditRecord;
use crate::domain::ids::TenantId;
use crate::services::access::caller::Caller;
use crate::services::access::stream_permits::StreamPermit;
use crate::services::error::Result;
use crate::store::queries::AuditRange;
use crate::store::{StoreError, TenantScope};

/// Entries of one read with a filter.
const READ: u64 = 500;

/// A line of an export.
#[derive(Debug)]
pub enum ExportLine {
    Header {
        tenant_id: TenantId,
        /// The link behind which the export starts.
        after: u64,
        public_key: Option<AgentPublicKey>,
        /// True if it contains every entry, and links.
        is_complete: bool,
    },
    /// Where the log starts, if retention removed older links that the export would have.
    Anchor(AuditAnchor),
    Link(AuditLink),
    Entry(Box<AuditRecord>),
    /// The last line of a complete export.
    Head(AuditHead),
    /// The last line of an export with a filter.
    End {
        /// An export continues behind it.
        position: AuditPosition,
    },
}

/// An export for one caller.
#[derive(Debug)]
pub struct AuditExport {
    viewer: StreamPermit,
    owner: LogOwner,
    tenant: TenantScope,
    filter: AuditFilter,
    position: AuditPosition,
    /// The link behind which the log started when the export started.
    start: u64,
    /// The last link when the export started. Later ones are for the next export.
    head: Option<AuditHead>,
    lines: VecDeque<ExportLine>,
    is_over: bool,
}

impl AuditLog {
    /// Starts an export behind an entry.
    ///
    /// # Errors
    /// [`crate::services::error::ServiceError::TooMany`] at the limits of live streams.
    pub async fn export(
        &self,
        caller: &Caller,
        owner: LogOwner,
        filter: AuditFilter,
        after: Option<AuditPosition>,
    ) -> Result<AuditExport> {
        let tenant_id = owned_by(owner, caller)?;
        let viewer = self.viewers.admit(caller)?;
        let tenant = self.store.tenant(tenant_id);
        // The head before the anchor: what is removed in between is missing, not the other way round.
        let head = tenant.audit_head().await?;
        let anchor = tenant.audit_anchor().await?.filter(|_| filter.is_empty());
        let start = anchor.as_ref().map_or(0, |anchor| anchor.number);
        let position = match after {
            None => AuditPosition::end_of(0),
            // A link is only complete with all its entries.
            Some(after) if filter.is_empty() && after != AuditPosition::end_of(after.link) => {
                AuditPosition::end_of(after.link.saturating_sub(1))
            }
            Some(after) => after,
        };
        let position = position.max(AuditPosition::end_of(start));
        let header = ExportLine::Header {
            tenant_id,
            after: position.link,
            public_key: tenant.audit_key().map(|key| key.public_key()),
            is_complete: filter.is_empty(),
        };
        let mut lines = VecDeque::from([header]);
        let anchor = anchor.filter(|_| position.link == start);
        lines.extend(anchor.map(ExportLine::Anchor));
        let is_over = false;
        Ok(AuditExport { viewer, owner, tenant, filter, position, start, head, lines, is_over })
    }
}

impl AuditExport {
    /// The next line; `None` at the end, or when the caller loses its right to see the log. The last line
    /// is a head or an end, unless the export was cut off.
    ///
    /// # Errors
    /// [`StoreError`]; the export is cut off.
    pub async fn next(&mut self) -> std::result::Result<Option<ExportLine>, StoreError> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            if self.is_over || !self.viewer.may_see(&[self.owner.scope()]).await? {
                return Ok(None);
            }
            match self.filter.is_empty() {
                true => self.read_links().await?,
                false => self.read_matching().await?,
            }
        }
    }

    async fn read_links(&mut self) -> std::result::Result<(), StoreError> {
        let until = self.head.as_ref().map_or(0, |head| head.number);
        let part = read_part(&self.tenant, (self.start, self.position.link), until).await?;
        self.position = AuditPosition::end_of(part.last);
        let mut entries = part.entries;
        for entries in entries.values_mut() {
            self.tenant.name_audit_entries(entries).await?;
        }
        for link in part.links {
            // Also what is stored under links that are not stored.
            let later = entries.split_off(&link.number);
            self.add_entries(std::mem::replace(&mut entries, later).into_values().flatten());
            let number = link.number;
            self.lines.push_back(ExportLine::Link(link));
            self.add_entries(entries.remove(&number).into_iter().flatten());
        }
        self.add_entries(entries.into_values().flatten());
        if part.is_end {
            self.is_over = true;
            self.lines.extend(self.head.take().map(ExportLine::Head));
        }
        Ok(())
    }

    async fn read_matching(&mut self) -> std::result::Result<(), StoreError> {
        let range = AuditRange::After(self.position);
        let mut page = self.tenant.audit_entries(&self.filter, range, READ).await?;
        self.tenant.name_audit_entries(&mut page.entries).await?;
        let last = page.entries.last().map(AuditRecord::position);
        self.position = page.next.or(last).unwrap_or(self.position);
        self.add_entries(page.entries.into_iter());
        if page.next.is_none() {
            self.is_over = true;
            self.lines.push_back(ExportLine::End { position: self.position });
        }
        Ok(())
    }

    fn add_entries(&mut self, entries: impl Iterator<Item = AuditRecord>) {
        self.lines.extend(entries.map(|entry| ExportLine::Entry(Box::new(entry))));
    }
}
