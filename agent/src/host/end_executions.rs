//! Ending every job of the host, whether or not an agent runs. Results stay in the ledger, for the
//! agent that runs or the one that starts next.

use std::thread;
use std::time::{Duration, Instant};

use muster_protocol::limits::CANCEL_GRACE_MS;

use super::HostError;
use super::jobs::{OpenJob, open_jobs};
use crate::exec;
use crate::layout::StateDir;
use crate::ledger::record::StartedRecord;
use crate::storage::{self, StorageError};

/// Between two looks at what still runs.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What became of the jobs that were open.
#[derive(Debug, Default)]
pub struct Ended {
    pub ended: Vec<OpenJob>,
    /// Accepted and not started yet; they never will be.
    pub unstarted: Vec<OpenJob>,
    /// Still running when the time was up.
    pub left: Vec<OpenJob>,
}

/// Why the jobs could not be ended. The texts go to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum EndJobsError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("the agent's files belong to the user {owner}: run this as that user")]
    AnothersFiles { owner: String },
    #[error("a job could not be asked to end: run this as root, or as the agent's own user")]
    Ask(#[source] StorageError),
}

/// Ends every job that is open now: TERM, after ten seconds KILL. Waits at most `patience` until
/// they are gone. Jobs that a running agent accepts meanwhile are not concerned.
///
/// # Errors
/// [`EndJobsError`] if the jobs can't be seen, or one can't be asked.
pub fn end_executions(state: &StateDir, patience: Duration) -> Result<Ended, EndJobsError> {
    if let Some(owner) = super::other_owner(state.path()) {
        return Err(EndJobsError::AnothersFiles { owner });
    }
    let mut open = open_jobs(state)?;
    let deadline = Instant::now() + patience;
    for job in &open {
        exec::ask_to_cancel(&job.dir, CANCEL_GRACE_MS).map_err(EndJobsError::Ask)?;
    }
    for job in &open {
        if job.started_at.is_some() && !job.is_kept()? {
            end_what_is_left(job);
        }
    }
    let mut outcome = Ended::default();
    loop {
        let mut running = Vec::new();
        for job in open {
            // From here on a look may get into the way of a shim that begins, which is as well.
            if job.is_kept()? {
                running.push(job);
            } else if job.dir.started().exists() {
                outcome.ended.push(job);
            } else {
                outcome.unstarted.push(job);
            }
        }
        if running.is_empty() || Instant::now() >= deadline {
            outcome.left = running;
            return Ok(outcome);
        }
        open = running;
        thread::sleep(LOOK_AGAIN);
    }
}

/// Of a job whose shim has vanished. The next agent would do the same and call it lost.
fn end_what_is_left(job: &OpenJob) {
    let started: Option<StartedRecord> = storage::read_sealed(&job.dir.started()).ok().flatten();
    exec::end_leftovers(job.command_id, started.as_ref());
}

impl Ended {
    /// For people.
    pub fn text(&self) -> String {
        let line = |word: &str, job: &OpenJob| format!("{word} {}\n", job.title());
        let lines: Vec<_> = self
            .ended
            .iter()
            .map(|job| line("ended", job))
            .chain(self.unstarted.iter().map(|job| line("will not start", job)))
            .chain(self.left.iter().map(|job| line("still running", job)))
            .collect();
        if lines.is_empty() { "no job was running\n".to_owned() } else { lines.concat() }
    }
}
