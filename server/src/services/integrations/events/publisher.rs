//! Turns changes of commands and jobs into events, while any client is subscribed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{CommandId, JobId};
use crate::domain::integrations::tenant_event::TenantEvent;
use crate::hub::{CommandChange, CommandChanges, Hub};
use crate::store::{Store, StoreError};

/// Jobs that are read together.
const BATCH: usize = 200;
/// Executions whose last published state is remembered, to avoid most repeated events.
const REMEMBERED_EXECUTIONS: usize = 20_000;
/// The same for jobs.
const REMEMBERED_JOBS: usize = 1_000;
/// Jobs that wait to be published. Above this, clients receive a reset.
const MAX_JOBS: usize = 10_000;

/// Publishes events. There must be only one.
#[derive(Debug)]
pub struct EventPublisher {
    store: Store,
    hub: Arc<Hub>,
    published: HashMap<CommandId, CommandState>,
    published_jobs: HashMap<JobId, TenantEvent>,
    /// Jobs that changed since they were last published.
    jobs: HashSet<JobId>,
}

impl EventPublisher {
    pub(in crate::services) fn new(store: Store, hub: Arc<Hub>) -> Self {
        Self {
            store,
            hub,
            published: HashMap::new(),
            published_jobs: HashMap::new(),
            jobs: HashSet::new(),
        }
    }

    /// Records one round of changes, and publishes its executions.
    pub fn record(&mut self, changes: &CommandChanges) {
        if !changes.is_complete {
            self.hub.event_log.interrupt();
        }
        self.jobs.extend(&changes.jobs);
        for change in &changes.commands {
            self.jobs.extend(change.job_id);
            if change.command == "execute" && self.is_new(change) {
                self.hub.event_log.append(change.tenant_id, event(change));
            }
        }
        if self.jobs.len() > MAX_JOBS {
            self.jobs.clear();
            self.missed();
        }
    }

    fn is_new(&mut self, change: &CommandChange) -> bool {
        if self.published.len() >= REMEMBERED_EXECUTIONS {
            self.published.clear();
        }
        self.published.insert(change.id, change.state) != Some(change.state)
    }

    /// True if [`Self::publish_jobs`] has jobs to publish.
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Publishes the state of jobs that have changed.
    ///
    /// # Errors
    /// [`StoreError`]; the next call publishes what this one did not.
    pub async fn publish_jobs(&mut self) -> Result<(), StoreError> {
        while self.has_jobs() {
            let ids: Vec<_> = self.jobs.iter().copied().take(BATCH).collect();
            for job in self.store.system().job_event_snapshots(&ids).await? {
                let event = TenantEvent::Job {
                    id: job.id,
                    script: job.script,
                    state: job.state,
                    counts: job.counts.into_iter().map(|(state, n)| (state.as_str(), n)).collect(),
                    finished_at: job.finished_at,
                };
                if self.published_jobs.len() >= REMEMBERED_JOBS {
                    self.published_jobs.clear();
                }
                if self.published_jobs.insert(job.id, event.clone()).as_ref() != Some(&event) {
                    self.hub.event_log.append(job.tenant_id, event);
                }
            }
            ids.iter().for_each(|id| {
                self.jobs.remove(id);
            });
        }
        Ok(())
    }

    /// Changes were missed: clients must read everything again.
    pub fn missed(&mut self) {
        self.published.clear();
        self.published_jobs.clear();
        self.hub.event_log.interrupt();
    }
}

fn event(change: &CommandChange) -> TenantEvent {
    TenantEvent::Execution {
        id: change.id,
        job_id: change.job_id,
        agent_id: change.agent_id,
        script: change.script.clone(),
        state: change.state,
    }
}
