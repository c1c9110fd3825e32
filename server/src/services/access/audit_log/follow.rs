//! New entries as they are committed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;

use super::{AuditLog, owned_by};
use crate::domain::access::audit::{AuditFilter, AuditPosition, LogOwner};
use crate::domain::access::records::AuditRecord;
use crate::services::access::caller::Caller;
use crate::services::access::stream_permits::StreamPermit;
use crate::services::error::Result;
use crate::store::queries::AuditRange;
use crate::store::{StoreError, TenantScope};

/// Entries of one read.
const READ: u64 = 100;
/// How often the log is read without a commit of this process: another one may share the database.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// An event of a stream.
#[derive(Debug)]
pub enum FollowedEntry {
    /// The stream has every entry behind this position.
    Ready(AuditPosition),
    Entry(Box<AuditRecord>),
}

/// One client's stream.
#[derive(Debug)]
pub struct AuditStream {
    viewer: StreamPermit,
    owner: LogOwner,
    tenant: TenantScope,
    filter: AuditFilter,
    commits: watch::Receiver<u64>,
    position: AuditPosition,
    ready: VecDeque<FollowedEntry>,
    /// More entries are known to follow.
    has_more: bool,
}

impl AuditLog {
    /// Follows the log behind an entry; `None`: from now on.
    ///
    /// # Errors
    /// [`crate::services::error::ServiceError::TooMany`] at the limits of live streams.
    pub async fn follow(
        &self,
        caller: &Caller,
        owner: LogOwner,
        filter: AuditFilter,
        after: Option<AuditPosition>,
    ) -> Result<AuditStream> {
        let tenant_id = owned_by(owner, caller)?;
        let viewer = self.viewers.admit(caller)?;
        let tenant = self.store.tenant(tenant_id);
        let commits = self.store.writer().audit_commits();
        let mut ready = VecDeque::new();
        let position = match after {
            Some(position) => position,
            None => {
                let head = tenant.audit_head().await?;
                let position = AuditPosition::end_of(head.map_or(0, |head| head.number));
                ready.push_back(FollowedEntry::Ready(position));
                position
            }
        };
        Ok(AuditStream { viewer, owner, tenant, filter, commits, position, ready, has_more: true })
    }
}

impl AuditStream {
    /// The next event; `None` when the caller's right to see the log has ended.
    ///
    /// # Errors
    /// [`StoreError`]; the client reconnects with the last id that it received.
    pub async fn next(&mut self) -> std::result::Result<Option<FollowedEntry>, StoreError> {
        loop {
            // Checked before each event, because the right may end after the entry was read.
            if !self.viewer.may_see(&[self.owner.scope()]).await? {
                return Ok(None);
            }
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if !self.has_more {
                tokio::select! {
                    _ = self.commits.changed() => {}
                    () = tokio::time::sleep(READ_AGAIN) => {}
                    () = self.viewer.recheck() => continue,
                }
            }
            self.commits.mark_unchanged();
            self.read().await?;
        }
    }

    async fn read(&mut self) -> std::result::Result<(), StoreError> {
        let range = AuditRange::After(self.position);
        let mut page = self.tenant.audit_entries(&self.filter, range, READ).await?;
        self.tenant.name_audit_entries(&mut page.entries).await?;
        let last = page.entries.last().map(AuditRecord::position);
        self.position = page.next.or(last).unwrap_or(self.position);
        self.has_more = page.next.is_some();
        self.ready
            .extend(page.entries.into_iter().map(|entry| FollowedEntry::Entry(Box::new(entry))));
        Ok(())
    }
}
