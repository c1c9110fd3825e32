//! Reconciles jobs: finishes those whose executions have ended, and advances rollouts.
//!
//! `domain/commands/rollout` decides about waves. Each step is one transaction, decided from stored
//! data, so a server that stops in between neither skips nor repeats a step.

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

/// Jobs that are read together.
const BATCH: usize = 500;

/// Finishes jobs and advances rollouts.
#[derive(Clone, Debug)]
pub struct JobReconciler {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    pub(in crate::services) presence: Presence,
}

/// Jobs that must be reconciled at a certain time even if they do not change.
pub type Due = HashMap<JobId, Timestamp>;

impl JobReconciler {
    /// Reconciles some jobs. Repeatable.
    ///
    /// # Errors
    /// [`StoreError`]; the next call does what was not committed.
    pub async fn reconcile(&self, jobs: &[JobId]) -> Result<Due, StoreError> {
        let mut due = Due::new();
        for jobs in jobs.chunks(BATCH) {
            self.finish(jobs).await?;
            for rollout in self.store.system().live_rollouts(jobs).await? {
                let job_id = rollout.row.job_id;
                if let Some(at) = self.advance(rollout).await? {
                    due.insert(job_id, at);
                }
                self.hub.event_feed.publish_jobs(vec![job_id]);
            }
        }
        Ok(due)
    }

    /// [`Self::reconcile`] for every job that is not finished.
    ///
    /// # Errors
    /// [`StoreError`]; the next call does what was not committed.
    pub async fn reconcile_all(&self) -> Result<Due, StoreError> {
        let (mut after, mut due) = (None, Due::new());
        loop {
            let jobs = self.store.system().unfinished_jobs(after, BATCH as u64).await?;
            let Some(last) = jobs.last() else { return Ok(due) };
            after = Some(*last);
            due.extend(self.reconcile(&jobs).await?);
        }
    }

    /// Milliseconds from now until an instant.
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
                // Also after an error: the commit, with its webhook, may be stored.
                self.hub.notify_webhook_due();
            }
            done?;
        }
        self.hub.event_feed.publish_jobs(finished);
        Ok(())
    }
}
