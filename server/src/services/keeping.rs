//! What follows from the executions of a job: its end.

use crate::domain::ids::JobId;
use crate::domain::job_state::JobState;
use crate::store::writer::FinishJob;
use crate::store::{Store, StoreError};

/// Jobs that are looked at together.
const ROUND: usize = 500;

/// Use cases of jobs that nobody asks for: they follow from what happened.
#[derive(Clone, Debug)]
pub struct Keeping {
    pub(super) store: Store,
}

impl Keeping {
    /// Finishes those of some jobs whose executions have all ended, and says which. Repeatable.
    ///
    /// # Errors
    /// [`StoreError`]; what was not committed is done the next time.
    pub async fn keep(&self, jobs: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        let mut finished = Vec::new();
        for jobs in jobs.chunks(ROUND) {
            let ended = self.store.system().ended_jobs(jobs).await?;
            let mut waits = Vec::with_capacity(ended.len());
            for job in ended {
                let operation = FinishJob {
                    tenant_id: job.tenant_id,
                    job_id: job.id,
                    state: JobState::of_ended(job.states),
                    finished_at: job.finished_at,
                };
                finished.push(job.id);
                waits.push(self.store.writer().enqueue(operation).await?);
            }
            for wait in waits {
                wait.await?;
            }
        }
        Ok(finished)
    }

    /// [`Self::keep`], for every job that is not finished.
    ///
    /// # Errors
    /// [`StoreError`]; what was not committed is done the next time.
    pub async fn keep_all(&self) -> Result<Vec<JobId>, StoreError> {
        let mut finished = Vec::new();
        let mut after = None;
        loop {
            let jobs = self.store.system().unfinished_jobs(after, ROUND as u64).await?;
            let Some(last) = jobs.last() else { return Ok(finished) };
            after = Some(*last);
            finished.extend(self.keep(&jobs).await?);
        }
    }
}
