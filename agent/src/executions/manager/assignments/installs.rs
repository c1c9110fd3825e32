//! The archives of assigned packages, and the bodies of assigned scripts: downloaded while the server is there, and kept while they are
//! assigned.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::package::AssignedItem;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::RunRefusal;
use crate::executions::manager::{ExecutionManager, TaskEvent};
use crate::executions::packages::PackageError;

/// Size of all archives that are assigned to a host: 1 GiB.
const MAX_ASSIGNED_BYTES: u64 = 1024 * 1024 * 1024;

/// How far a host is with the archive of an assignment.
#[derive(Debug)]
pub(super) struct Install {
    sha256: String,
    state: InstallState,
}

#[derive(Debug)]
enum InstallState {
    Running(AbortHandle),
    Kept,
    Failed(RunRefusal),
}

impl Install {
    pub fn abort(self) {
        if let InstallState::Running(handle) = self.state {
            handle.abort();
        }
    }

    pub fn is_kept(&self) -> bool {
        matches!(self.state, InstallState::Kept)
    }

    pub fn failure(&self) -> Option<(String, String)> {
        match &self.state {
            InstallState::Failed(refusal) => Some((refusal.code.clone(), refusal.message.clone())),
            InstallState::Running(_) | InstallState::Kept => None,
        }
    }
}

impl ExecutionManager {
    /// Downloads the archives that are missing, and lets go those that are not assigned any more. One that
    /// failed is tried again with each list of the server.
    pub(super) fn follow_installs(&mut self, wanted: &[AssignedItem]) {
        let Some(packages) = self.preparations.packages() else { return };
        let by_id: BTreeMap<Uuid, &AssignedItem> =
            wanted.iter().map(|item| (item.assignment_id, item)).collect();
        let known = std::mem::take(&mut self.assignments.installs);
        let mut dropped = BTreeSet::new();
        for (id, install) in known {
            let is_same = by_id.get(&id).is_some_and(|item| item.package.sha256 == install.sha256);
            match is_same && install.failure().is_none() {
                true => {
                    self.assignments.installs.insert(id, install);
                }
                false => {
                    dropped.insert(install.sha256.clone());
                    install.abort();
                }
            }
        }
        let pinned: BTreeSet<String> =
            wanted.iter().map(|item| item.package.sha256.clone()).collect();
        packages.pin(pinned.clone());
        for sha256 in dropped.difference(&pinned) {
            packages.discard(sha256);
        }
        let mut bytes_of: BTreeMap<&str, u64> = BTreeMap::new();
        for item in wanted {
            // Without its document nothing is downloaded: the check of the assignment reports it.
            let Some(bytes) = item.download_bytes() else { continue };
            bytes_of.insert(&item.package.sha256, bytes);
            let id = &item.assignment_id;
            // What the host refuses is not downloaded.
            if self.assignments.installs.contains_key(id)
                || self.assignments.refusals.contains_key(id)
            {
                continue;
            }
            let (id, sha256) = (item.assignment_id, item.package.sha256.clone());
            let state = if bytes_of.values().sum::<u64>() > MAX_ASSIGNED_BYTES {
                let message = "the archives that are assigned to this host are larger than 1 GiB";
                InstallState::Failed(RunRefusal::new("no_space", message))
            } else {
                let (packages, fetched) = (packages.clone(), sha256.clone());
                InstallState::Running(self.tasks.spawn(async move {
                    let kept = packages.keep(&fetched, bytes).await;
                    TaskEvent::ArchiveKept(id, fetched, kept)
                }))
            };
            self.assignments.installs.insert(id, Install { sha256, state });
        }
    }

    /// What a host has lost is downloaded again.
    pub(super) fn download_again(&mut self, item: &AssignedItem) {
        let lost = self.assignments.installs.get(&item.assignment_id).is_some_and(Install::is_kept);
        if lost {
            self.assignments.installs.remove(&item.assignment_id);
            self.follow_installs(&self.assignments.list.items.clone());
        }
    }

    /// An archive was downloaded, or can't be.
    pub(in crate::executions::manager) fn handle_kept(
        &mut self,
        assignment_id: Uuid,
        sha256: &str,
        kept: Result<(), PackageError>,
    ) {
        let installs = &mut self.assignments.installs;
        let Some(install) = installs.get_mut(&assignment_id).filter(|i| i.sha256 == sha256) else {
            return;
        };
        install.state = match kept {
            Ok(()) => InstallState::Kept,
            Err(error) => {
                tracing::warn!(%assignment_id, %error, "failed to install an assigned package");
                InstallState::Failed(RunRefusal::new(error.code(), error.to_string()))
            }
        };
        // What could be refused without the archive was; with it there may be more reasons.
        self.check_assignments();
        self.follow_services();
        self.announce_assignments();
    }
}
