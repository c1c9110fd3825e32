//! What the manager does about a command after its on-disk state was examined.

use std::time::Duration;

use muster_protocol::frame::{Outcome, Response};
use uuid::Uuid;

use super::{ExecutionEvent, ExecutionManager, TaskEvent};
use crate::executions::ledger;
use crate::executions::ledger::record::{StartedRecord, refusal, result_data};
use crate::executions::ledger::recovery::RecoveryAction;
use crate::executions::shim_watch::{self, Watch};
use crate::executions::{orphans, output_reader};
use crate::platform::{FileLock, LockError};
use crate::storage;
use crate::storage::layout::ExecutionDir;

/// Shims that end without a trace are started this often before it is given up.
const MAX_ATTEMPTS: u32 = 3;
/// A lock is signed a moment after it is taken; how long that moment is waited out.
const SIGNATURE_PAUSE: Duration = Duration::from_millis(20);
/// After a look at an execution that the system did not allow.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl ExecutionManager {
    pub(super) fn recover(&mut self, command_id: Uuid) {
        match self.ledger.decide(command_id) {
            Ok(recovery) => self.apply_recovery(command_id, recovery),
            Err(error) => {
                // Too many open files, say. What can't be seen is not judged.
                let error = &error as &dyn std::error::Error;
                tracing::error!(%command_id, error, "the execution can't be looked at now");
                self.tasks.spawn(async move {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    TaskEvent::Unknown(command_id)
                });
            }
        }
    }

    /// Does what the traces of a command ask for.
    pub(super) fn apply_recovery(&mut self, command_id: Uuid, recovery: RecoveryAction) {
        match recovery {
            RecoveryAction::Reattach => {
                let shim = self.shims.entry(command_id).or_default();
                shim.is_started = self.state.execution(command_id).started().exists();
                let execution = self.state.execution(command_id);
                self.tasks.spawn(async move { reattach(command_id, execution).await });
                return;
            }
            RecoveryAction::Start => {
                let attempts = self.shims.get(&command_id).map_or(0, |shim| shim.attempts);
                if attempts < MAX_ATTEMPTS {
                    self.ledger.set_waiting(command_id);
                    if attempts > 0 {
                        self.start(command_id);
                        return;
                    }
                } else if !self.settle_unstarted(shim_not_started(command_id)) {
                    return;
                }
            }
            RecoveryAction::Report => {
                self.ledger.set_settled(command_id);
                self.events.push_back(ExecutionEvent::Settled(command_id));
            }
            RecoveryAction::Cancel => {
                if !self.settle_unstarted(ledger::cancelled(command_id)) {
                    return;
                }
            }
            RecoveryAction::Expire => {
                if !self.settle_unstarted(ledger::expired(command_id)) {
                    return;
                }
            }
            RecoveryAction::Lose => {
                self.kill_leftovers(command_id);
                return;
            }
            RecoveryAction::Discard => {
                tracing::error!(%command_id, "the command's record has vanished");
                self.settle(self.lost(command_id));
            }
        }
        self.shims.remove(&command_id);
    }

    /// Settles a command that has not started, under the lock that a shim would need: one that an
    /// agent before this one started late can't get between the look and the word. False if there
    /// is such a shim, which is then watched.
    pub(super) fn settle_unstarted(&mut self, response: Response) -> bool {
        let command_id = response.command_id;
        let lock = FileLock::take(&self.state.execution(command_id).lock());
        if matches!(lock, Err(LockError::Held)) {
            self.ledger.set_running(command_id);
            self.apply_recovery(command_id, RecoveryAction::Reattach);
            return false;
        }
        // Where no lock can be made, on a full disk, no shim can get past it either.
        self.settle(response);
        true
    }

    /// Ends what is left of a lost run before it is called lost.
    fn kill_leftovers(&mut self, command_id: Uuid) {
        self.shims.entry(command_id).or_default();
        let started = self.state.execution(command_id).started();
        self.tasks.spawn(async move {
            let started: Option<StartedRecord> = storage::read_sealed(&started).ok().flatten();
            let clear = move || orphans::kill_orphans(command_id, started.as_ref());
            if !matches!(tokio::task::spawn_blocking(clear).await, Ok(true)) {
                tracing::error!(%command_id, "processes of a lost command could not be ended");
            }
            TaskEvent::LeftoversKilled(command_id)
        });
    }

    pub(super) fn lost(&self, command_id: Uuid) -> Response {
        let recorded =
            output_reader::recorded_from_start(&self.state.execution(command_id).output())
                .unwrap_or_default();
        let text = "the process that kept this run has vanished, so what came of it is not known; check the host before running it again";
        Response {
            data: result_data(&recorded.result_of_lost_execution()),
            ..refusal(command_id, Outcome::Lost, "lost", text.to_owned())
        }
    }
}

async fn reattach(command_id: Uuid, execution: ExecutionDir) -> TaskEvent {
    match shim_watch::watch_holder(&execution) {
        Ok(Some(Watch::Over)) | Ok(None) | Err(_) => {
            tokio::time::sleep(SIGNATURE_PAUSE).await;
            TaskEvent::Unknown(command_id)
        }
        Ok(Some(watch)) => {
            watch.ended().await;
            TaskEvent::ShimEnded(command_id)
        }
    }
}

pub(super) fn shim_not_started(command_id: Uuid) -> Response {
    let text = "the host could not start the process that keeps a run; see shim.log and the agent's log there";
    refusal(command_id, Outcome::Failed, "not_started", text.to_owned())
}
