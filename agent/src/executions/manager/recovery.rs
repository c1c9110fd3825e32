//! Decides and carries out what to do about a command whose shim ended or was found at a start.

use std::time::Duration;

use muster_protocol::commands::step::StepProgress;
use muster_protocol::frame::{Outcome, Response};
use uuid::Uuid;

use super::{ExecutionEvent, ExecutionManager, TaskEvent};
use crate::executions::launcher;
use crate::executions::ledger;
use crate::executions::ledger::record::{StartedRecord, refusal, result_data};
use crate::executions::ledger::recovery::RecoveryAction;
use crate::executions::shim_watch::{self, Watch};
use crate::executions::{orphans, output_reader, output_release};
use crate::platform::{FileLock, LockError};
use crate::storage;
use crate::storage::layout::ExecutionDir;

/// Number of starts before the agent gives up on shims that end without a trace.
const MAX_ATTEMPTS: u32 = 3;
/// Delay before the state is read again: a shim writes its identity a moment after it takes its
/// lock.
const SIGNATURE_PAUSE: Duration = Duration::from_millis(20);
/// Why the result of an execution is lost.
const LOST: &str = "the process that supervised this execution vanished, so its result is unknown; check the host before running the script again";
/// Delay after the system refused to show the state of an execution.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl ExecutionManager {
    pub(super) fn recover(&mut self, command_id: Uuid) {
        match self.ledger.decide(command_id) {
            Ok(recovery) => self.apply_recovery(command_id, recovery),
            Err(error) => {
                // For example, too many open files. What can't be read is not decided.
                let error = &error as &dyn std::error::Error;
                tracing::error!(%command_id, error, "failed to read the state of an execution; trying again");
                self.tasks.spawn(async move {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    TaskEvent::Unknown(command_id)
                });
            }
        }
    }

    /// Carries out the action for a command.
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
                let by = launcher::cancelled_by(&self.state.execution(command_id));
                if !self.settle_unstarted(ledger::cancelled(command_id, by)) {
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
                tracing::error!(%command_id, "the record of a command was deleted");
                self.settle(lost(command_id, &self.state.execution(command_id)));
            }
        }
        self.shims.remove(&command_id);
    }

    /// Settles a command that has not started, under the lock that its shim would need, so that a
    /// shim that the previous agent started late can't run it in between. Returns false if such a
    /// shim exists; the shim is then watched.
    pub(super) fn settle_unstarted(&mut self, response: Response) -> bool {
        let command_id = response.command_id;
        let lock = FileLock::take(&self.state.execution(command_id).lock());
        if matches!(lock, Err(LockError::Held)) {
            self.ledger.set_running(command_id);
            self.apply_recovery(command_id, RecoveryAction::Reattach);
            return false;
        }
        // If the lock file can't be created, as on a full disk, no shim can take it either.
        self.settle(response);
        true
    }

    /// Kills the remaining processes of a lost run before the run is reported as lost.
    fn kill_leftovers(&mut self, command_id: Uuid) {
        self.shims.entry(command_id).or_default();
        let execution = self.state.execution(command_id);
        self.tasks.spawn(async move {
            let clear = move || {
                let started: Option<StartedRecord> =
                    storage::read_sealed(&execution.started()).ok().flatten();
                if !orphans::kill_orphans(command_id, started.as_ref()) {
                    tracing::error!(%command_id, "failed to end all processes of a lost execution");
                }
                // Hashing much output takes seconds, in which the agent must not stand still.
                lost(command_id, &execution)
            };
            let response = tokio::task::spawn_blocking(clear).await;
            TaskEvent::LeftoversKilled(Box::new(response.unwrap_or_else(|_| {
                tracing::error!(%command_id, "failed to read the output of a lost execution");
                refusal(command_id, Outcome::Lost, "lost", LOST.to_owned())
            })))
        });
    }
}

/// The response to a command whose result can't be known, with the output that was recorded.
fn lost(command_id: Uuid, execution: &ExecutionDir) -> Response {
    let output = execution.output();
    // What is released can't be hashed again.
    let recorded = match output_release::released_bytes(&output) {
        0 => output_reader::recorded_from_start(&output).map(|(sum, hashes)| (sum, Some(hashes))),
        _ => output_reader::recorded(&output).map(|recorded| (recorded, None)),
    };
    let mut result = match recorded {
        Ok((recorded, None)) => recorded.result_of_lost_execution(),
        Ok((recorded, Some(hashes))) => hashes.into_result(recorded.result_of_lost_execution()),
        Err(_) => output_reader::Recorded::default().result_of_lost_execution(),
    };
    let progress: Option<StepProgress> = storage::read_sealed(&execution.steps()).ok().flatten();
    // How the step ended that ran is not known.
    result.steps = progress.map(|progress| progress.ended).unwrap_or_default();
    Response {
        data: result_data(&result),
        ..refusal(command_id, Outcome::Lost, "lost", LOST.to_owned())
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
    let text = "the host could not start the process that supervises an execution; see shim.log and the agent's log on the host";
    refusal(command_id, Outcome::Failed, "not_started", text.to_owned())
}
