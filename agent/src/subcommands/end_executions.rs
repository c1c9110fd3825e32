//! Ends all executions of the host, whether or not an agent is running. Results stay in the ledger,
//! for the running agent or the next one.

use std::thread;
use std::time::{Duration, Instant};

use muster_protocol::limits::CANCEL_GRACE_MS;

use super::InspectError;
use super::open_executions::{OpenExecution, open_executions};
use crate::executions;
use crate::executions::ledger::record::{CancelledBy, StartedRecord};
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// Interval at which running executions are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The result for the executions that were open.
#[derive(Debug, Default)]
pub struct EndedExecutions {
    pub ended: Vec<OpenExecution>,
    /// Accepted and not started; they never will be.
    pub unstarted: Vec<OpenExecution>,
    /// Still running when the time was up.
    pub left: Vec<OpenExecution>,
}

/// Why the executions could not be ended. The messages are shown to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum EndExecutionsError {
    #[error(transparent)]
    Host(#[from] InspectError),
    #[error("the agent's files belong to the user {owner}; run this as that user")]
    OtherOwner { owner: String },
    #[error(
        "failed to request the end of an execution; run this as root or as the agent's own user"
    )]
    Ask(#[source] StorageError),
}

/// Ends every open execution with TERM, and with KILL after ten seconds. Waits at most `patience`
/// for their end. Executions that a running agent accepts meanwhile are not affected.
///
/// # Errors
/// [`EndExecutionsError`] if the executions can't be read, or a cancellation can't be requested.
pub fn end_executions(
    state: &StateDir,
    patience: Duration,
) -> Result<EndedExecutions, EndExecutionsError> {
    if let Some(owner) = super::other_owner(state.path()) {
        return Err(EndExecutionsError::OtherOwner { owner });
    }
    let mut open = open_executions(state)?;
    let deadline = Instant::now() + patience;
    for execution in &open {
        executions::ask_to_cancel(&execution.dir, CANCEL_GRACE_MS, CancelledBy::HostOwner)
            .map_err(EndExecutionsError::Ask)?;
    }
    let mut outcome = EndedExecutions::default();
    loop {
        let mut running = Vec::new();
        for execution in open {
            // From here on the check may prevent a shim from starting, which is intended.
            if execution.has_shim()? {
                running.push(execution);
            } else if execution.dir.started().exists() {
                // Its shim may have been killed, also while this waited.
                kill_orphans_of(&execution);
                outcome.ended.push(execution);
            } else {
                outcome.unstarted.push(execution);
            }
        }
        if running.is_empty() || Instant::now() >= deadline {
            outcome.left = running;
            return Ok(outcome);
        }
        open = running;
        thread::sleep(POLL_INTERVAL);
    }
}

/// For an execution whose shim has vanished. The next agent would do the same and report it as
/// lost.
fn kill_orphans_of(execution: &OpenExecution) {
    let started: Option<StartedRecord> =
        storage::read_sealed(&execution.dir.started()).ok().flatten();
    executions::kill_orphans(execution.command_id, started.as_ref());
}

impl EndedExecutions {
    /// Text for people.
    pub fn text(&self) -> String {
        let line =
            |word: &str, execution: &OpenExecution| format!("{word} {}\n", execution.title());
        let lines: Vec<_> = self
            .ended
            .iter()
            .map(|execution| line("ended", execution))
            .chain(self.unstarted.iter().map(|execution| line("will not start", execution)))
            .chain(self.left.iter().map(|execution| line("still running", execution)))
            .collect();
        if lines.is_empty() { "no execution was running\n".to_owned() } else { lines.concat() }
    }
}
