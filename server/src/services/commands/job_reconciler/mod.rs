//! Reconciles jobs: finishes a job whose executions have all ended, takes the next step of its rollout,
//! and has the retries sent that are due.
//!
//! `domain/commands/rollout` decides the steps. Each step is one transaction, decided from what is
//! stored: a server that stops in between leaves no step undone and repeats none.

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

/// Jobs of one batch.
const BATCH: usize = 500;

/// Changes to jobs that follow from their executions, without a request.
#[derive(Clone, Debug)]
pub struct JobReconciler {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    pub(in crate::services) presence: Presence,
}

/// When jobs must be reconciled again even if nothing changes.
pub type DueJobs = HashMap<JobId, Timestamp>;

impl JobReconciler {
    /// Finishes the jobs whose executions have all ended, takes the due steps of their rollouts, and wakes
    /// the agents of due retries.
    /// Repeatable.
    ///
    /// # Errors
    /// [`StoreError`]; the next call does what was not committed.
    pub async fn reconcile(&self, jobs: &[JobId]) -> Result<DueJobs, StoreError> {
        let mut due = DueJobs::new();
        for jobs in jobs.chunks(BATCH) {
            self.finish(jobs).await?;
            let now = self.clock.now();
            for attempt in self.store.system().waiting_attempts(jobs).await? {
                if attempt.not_before <= now {
                    self.hub.wake(attempt.agent_id);
                } else {
                    add_due(&mut due, attempt.job_id, attempt.not_before);
                }
            }
            for rollout in self.store.system().live_rollouts(jobs).await? {
                let job_id = rollout.row.job_id;
                if let Some(at) = self.advance(rollout).await? {
                    add_due(&mut due, job_id, at);
                }
                self.hub.event_feed.publish_jobs(vec![job_id]);
            }
        }
        Ok(due)
    }

    /// Does [`Self::reconcile`] for every unfinished job.
    ///
    /// # Errors
    /// [`StoreError`]; the next call does what was not committed.
    pub async fn reconcile_all(&self) -> Result<DueJobs, StoreError> {
        let (mut after, mut due) = (None, DueJobs::new());
        loop {
            let jobs = self.store.system().unfinished_jobs(after, BATCH as u64).await?;
            let Some(last) = jobs.last() else { return Ok(due) };
            after = Some(*last);
            due.extend(self.reconcile(&jobs).await?);
        }
    }

    /// Milliseconds from now until an instant; 0 if it has passed.
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
                // Also after an error: the change may be committed, and a webhook with it.
                self.hub.notify_webhook_due();
            }
            done?;
        }
        self.hub.event_feed.publish_jobs(finished);
        Ok(())
    }
}

/// Adds an instant at which a job must be reconciled; the first one counts.
fn add_due(due: &mut DueJobs, job_id: JobId, at: Timestamp) {
    let first = due.entry(job_id).or_insert(at);
    *first = at.min(*first);
}
