//! From changes of commands and jobs to events, while anybody looks on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{CommandId, JobId};
use crate::domain::integrations::tenant_event::TenantEvent;
use crate::hub::{CommandChange, CommandChanges, Hub};
use crate::store::{Store, StoreError};

/// Jobs that are looked at together.
const ROUND: usize = 200;
/// Executions whose last told state is remembered, so that it is seldom told twice.
const REMEMBERED: usize = 20_000;
/// The same of jobs.
const REMEMBERED_JOBS: usize = 1_000;
/// Jobs that wait to be told of; beyond, viewers are told that they missed some.
const MAX_JOBS: usize = 10_000;

/// Tells events. For one teller.
#[derive(Debug)]
pub struct Telling {
    store: Store,
    hub: Arc<Hub>,
    told: HashMap<CommandId, CommandState>,
    told_jobs: HashMap<JobId, TenantEvent>,
    /// Jobs that have changed since they were last told of.
    jobs: HashSet<JobId>,
}

impl Telling {
    pub(in crate::services) fn new(store: Store, hub: Arc<Hub>) -> Self {
        Self { store, hub, told: HashMap::new(), told_jobs: HashMap::new(), jobs: HashSet::new() }
    }

    /// Takes in one round of changes, and tells of its executions at once.
    pub fn take(&mut self, changes: &CommandChanges) {
        if !changes.is_complete {
            self.hub.event_log.interrupt();
        }
        self.jobs.extend(&changes.jobs);
        for change in &changes.commands {
            self.jobs.extend(change.job_id);
            if change.command == "execute" && self.is_news(change) {
                self.hub.event_log.append(change.tenant_id, event(change));
            }
        }
        if self.jobs.len() > MAX_JOBS {
            self.jobs.clear();
            self.missed();
        }
    }

    fn is_news(&mut self, change: &CommandChange) -> bool {
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        self.told.insert(change.id, change.state) != Some(change.state)
    }

    /// True if [`Self::tell_jobs`] has something to tell.
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Tells how the jobs stand that have changed.
    ///
    /// # Errors
    /// [`StoreError`]; what was not told is told the next time.
    pub async fn tell_jobs(&mut self) -> Result<(), StoreError> {
        while self.has_jobs() {
            let ids: Vec<_> = self.jobs.iter().copied().take(ROUND).collect();
            for job in self.store.system().jobs_now(&ids).await? {
                let event = TenantEvent::Job {
                    id: job.id,
                    script: job.script,
                    state: job.state,
                    counts: job.counts.into_iter().map(|(state, n)| (state.as_str(), n)).collect(),
                    finished_at: job.finished_at,
                };
                if self.told_jobs.len() >= REMEMBERED_JOBS {
                    self.told_jobs.clear();
                }
                if self.told_jobs.insert(job.id, event.clone()).as_ref() != Some(&event) {
                    self.hub.event_log.append(job.tenant_id, event);
                }
            }
            ids.iter().for_each(|id| {
                self.jobs.remove(id);
            });
        }
        Ok(())
    }

    /// Changes were missed: everything has to be read again.
    pub fn missed(&mut self) {
        self.told.clear();
        self.told_jobs.clear();
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
