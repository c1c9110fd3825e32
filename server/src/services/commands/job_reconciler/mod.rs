//! The keeper: what follows from the executions of a job, which is its end, and of a roll-out the
//! next wave.
//!
//! Decides nothing about waves itself: `domain/rollout` does. Whatever it does is one transaction,
//! decided anew from what is stored: a server that ends in between leaves nothing undone and
//! nothing done twice.

mod rollout_driver;

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::commands::job_state::JobState;
use crate::domain::ids::JobId;
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::Settings;
use crate::services::fleet::presence::Presence;
use crate::store::writer::FinishJob;
use crate::store::{Store, StoreError};

/// Jobs that are looked at together.
const ROUND: usize = 500;

/// Use cases of jobs that nobody asks for: they follow from what happened.
#[derive(Clone, Debug)]
pub struct JobReconciler {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    pub(in crate::services) presence: Presence,
}

/// Jobs that are to be looked at again though nothing changes, and when.
pub type Due = HashMap<JobId, Timestamp>;

impl JobReconciler {
    /// Finishes those of some jobs whose executions have all ended, and takes the steps that the
    /// roll-outs among them are due. Repeatable.
    ///
    /// # Errors
    /// [`StoreError`]; what was not committed is done the next time.
    pub async fn keep(&self, jobs: &[JobId]) -> Result<Due, StoreError> {
        let mut due = Due::new();
        for jobs in jobs.chunks(ROUND) {
            self.finish(jobs).await?;
            for rollout in self.store.system().live_rollouts(jobs).await? {
                let job_id = rollout.row.job_id;
                if let Some(at) = self.advance(rollout).await? {
                    due.insert(job_id, at);
                }
                self.hub.events.publish_jobs(vec![job_id]);
            }
        }
        Ok(due)
    }

    /// [`Self::keep`], for every job that is not finished.
    ///
    /// # Errors
    /// [`StoreError`]; what was not committed is done the next time.
    pub async fn reconcile_all(&self) -> Result<Due, StoreError> {
        let (mut after, mut due) = (None, Due::new());
        loop {
            let jobs = self.store.system().unfinished_jobs(after, ROUND as u64).await?;
            let Some(last) = jobs.last() else { return Ok(due) };
            after = Some(*last);
            due.extend(self.keep(&jobs).await?);
        }
    }

    /// How long it is from now until an instant, in milliseconds.
    pub fn ms_until(&self, at: Timestamp) -> u64 {
        at.ms_since(self.clock.now())
    }

    async fn finish(&self, jobs: &[JobId]) -> Result<(), StoreError> {
        let ended = self.store.system().ended_jobs(jobs).await?;
        let mut waits = Vec::with_capacity(ended.len());
        let finished = ended.iter().map(|job| job.id).collect();
        for job in ended {
            let operation = FinishJob {
                tenant_id: job.tenant_id,
                job_id: job.id,
                state: JobState::of_ended(job.stop, job.ends),
                finished_at: job.finished_at,
            };
            waits.push(self.store.writer().enqueue(operation).await?);
        }
        for wait in waits {
            let done = wait.await;
            if !matches!(done, Ok(false)) {
                // Also without an answer: it may stand, and with it a webhook.
                self.hub.webhook_due();
            }
            done?;
        }
        self.hub.events.publish_jobs(finished);
        Ok(())
    }
}
