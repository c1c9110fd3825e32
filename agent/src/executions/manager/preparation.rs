//! Prepares the packages of waiting executions: an execution that needs one starts once it is unpacked.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::frame::Outcome;
use tokio::sync::watch;
use uuid::Uuid;

use super::{ExecutionManager, TaskEvent};
use crate::executions::ledger::Phase;
use crate::executions::ledger::record::{CommandRecord, refusal};
use crate::executions::packages::{self, PackageError, PackageStore};
use crate::storage;

/// The packages that are prepared now.
#[derive(Debug, Default)]
pub(super) struct Preparations {
    packages: Option<PackageStore>,
    /// Dropped to end one.
    running: BTreeMap<Uuid, watch::Sender<()>>,
    prepared: BTreeSet<Uuid>,
}

impl Preparations {
    /// The packages of this host, once there are any.
    pub fn packages(&self) -> Option<PackageStore> {
        self.packages.clone()
    }

    pub fn running_ids(&self) -> impl Iterator<Item = Uuid> {
        self.running.keys().copied()
    }

    pub fn has(&self, command_id: Uuid) -> bool {
        self.running.contains_key(&command_id)
    }

    /// Ends the preparation of a command that will not start.
    pub fn end(&mut self, command_id: Uuid) {
        self.running.remove(&command_id);
    }

    /// Ends all, and returns the packages for other executions.
    pub fn end_all(&mut self) -> Option<PackageStore> {
        self.running.clear();
        self.packages.clone()
    }

    /// True once for each package that was unpacked.
    pub fn take_prepared(&mut self, command_id: Uuid) -> bool {
        self.prepared.remove(&command_id)
    }
}

impl ExecutionManager {
    /// Runs packages from now on. Until then, executions that need one wait.
    pub fn use_packages(&mut self, packages: PackageStore) {
        self.preparations.packages = Some(packages);
        self.start_waiting();
    }

    /// Begins to download and unpack the package of an execution.
    pub(super) fn prepare(&mut self, command_id: Uuid) {
        let Some(packages) = self.preparations.packages.clone() else { return };
        let path = self.state.execution(command_id).command();
        let record = storage::read_sealed::<CommandRecord>(&path);
        let Some(launch) = record.ok().flatten().and_then(|record| record.launch) else {
            tracing::error!(%command_id, "failed to read the record of a command");
            self.settle_unstarted(super::recovery::shim_not_started(command_id));
            return;
        };
        let (running, cancelled) = watch::channel(());
        self.preparations.running.insert(command_id, running);
        self.tasks.spawn(async move {
            let prepared = packages.prepare(command_id, launch, cancelled).await;
            TaskEvent::PackagePrepared(command_id, prepared)
        });
    }

    /// Starts the execution of a package that is unpacked, or settles it.
    pub(super) fn handle_prepared(&mut self, command_id: Uuid, result: Result<(), PackageError>) {
        let is_expected = self.preparations.running.remove(&command_id).is_some();
        let entry = self.ledger.entry(command_id);
        if !is_expected || entry.is_none_or(|entry| entry.phase != Phase::Waiting) {
            // It was cancelled or has expired, and is settled.
            packages::remove(&self.state.execution(command_id));
            return;
        }
        match result {
            Ok(()) => {
                self.preparations.prepared.insert(command_id);
                self.start(command_id);
            }
            Err(error) => {
                tracing::warn!(%command_id, %error, "failed to prepare a package");
                let code = error.code();
                let text = error.to_string();
                self.settle_unstarted(refusal(command_id, Outcome::Rejected, code, text));
                self.shims.remove(&command_id);
            }
        }
    }
}
