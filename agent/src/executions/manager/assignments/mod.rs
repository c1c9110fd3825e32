//! Assignments on the host: the packages and scripts that the server wants here, and the runs that the host
//! starts itself, also while the server is away.
//!
//! `assignments.json` of the state directory has the list of the server. A file in `task_cursors/` has the
//! last due time of a task that was handled. A run is written to the ledger first and the cursor after it.
//! The id of a run follows from its due time, so a due time that is handled again after a kill is known to
//! the ledger, and does not run twice. A file in `services/` has what is known about a service. The ledger
//! decides whether it runs: no run is accepted before the one before has ended.

mod installs;
mod run_planner;
mod service_rule;
mod services;
mod store;
mod tasks;

use std::collections::BTreeMap;

use muster_protocol::package::{
    AssignedItem, AssignmentReport, AssignmentState, MAX_AGENT_ASSIGNMENTS,
};
use tokio::time::Instant;
use uuid::Uuid;

use self::installs::Install;
pub use self::run_planner::{PlannedRun, RunPlanner, RunRefusal};
use self::services::Service;
pub use self::store::remove as remove_assignments;
use self::store::{CursorRecord, KeptList};
pub use self::tasks::MAX_TASK_OUTPUT_BYTES;
use self::tasks::Task;
use super::{ExecutionEvent, ExecutionManager};
use crate::clock::unix_ms;
use crate::storage::StorageError;

/// Longest error that a report has, in characters.
const MAX_ERROR_CHARS: usize = 500;
/// Longest version that a report has, in characters.
const MAX_VERSION_CHARS: usize = 64;

/// The assignments of this host.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    /// Absent until the agent can decide about runs: nothing is due before.
    planner: Option<Box<dyn RunPlanner>>,
    list: KeptList,
    installs: BTreeMap<Uuid, Install>,
    tasks: BTreeMap<Uuid, Task>,
    services: BTreeMap<Uuid, Service>,
    /// Why the host does not run an assignment.
    refusals: BTreeMap<Uuid, RunRefusal>,
    /// The last states that an event announced.
    announced: Vec<AssignmentReport>,
    /// When due times are checked next. At least once a minute, because clocks are set.
    next_check_at: Option<Instant>,
}

impl Assignments {
    /// When due times are checked next.
    pub fn next_check_at(&self) -> Option<Instant> {
        self.next_check_at
    }

    /// Ends, and returns what decides about runs.
    pub fn end_all(&mut self) -> Option<Box<dyn RunPlanner>> {
        let ended = std::mem::take(self);
        ended.installs.into_values().for_each(Install::abort);
        ended.planner
    }
}

impl ExecutionManager {
    /// Keeps the assignments of an earlier process from now on, and runs their tasks.
    ///
    /// # Errors
    /// [`StorageError`] if they can't be read.
    pub fn use_assignments(&mut self, planner: Box<dyn RunPlanner>) -> Result<(), StorageError> {
        self.assignments.list = store::load(&self.state)?;
        self.assignments.planner = Some(planner);
        self.follow_list();
        Ok(())
    }

    /// Replaces the list, durably. `is_permitted`: the agent's key permits `execute`.
    ///
    /// # Errors
    /// [`StorageError`]; the list before holds then.
    pub fn assign(
        &mut self,
        agent_id: Uuid,
        is_permitted: bool,
        mut items: Vec<AssignedItem>,
    ) -> Result<(), StorageError> {
        items.truncate(MAX_AGENT_ASSIGNMENTS);
        let list = KeptList { agent_id, is_permitted, items };
        if list != self.assignments.list {
            store::save(&self.state, &list)?;
            self.assignments.list = list;
        }
        self.follow_list();
        Ok(())
    }

    /// What the server wants on this host.
    pub fn assigned_items(&self) -> &[AssignedItem] {
        &self.assignments.list.items
    }

    /// The permissions of the agent's key have changed.
    pub fn permit_tasks(&mut self, is_permitted: bool) {
        if self.assignments.list.is_permitted == is_permitted {
            return;
        }
        self.assignments.list.is_permitted = is_permitted;
        if let Err(error) = store::save(&self.state, &self.assignments.list) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "failed to store what the agent's key permits");
        }
        self.check_assignments();
        self.follow_services();
        self.announce_assignments();
    }

    /// Makes everything follow the list: downloads begin, what is not listed is removed.
    fn follow_list(&mut self) {
        let wanted: Vec<AssignedItem> = self.assignments.list.items.clone();
        let is_wanted = |id: &Uuid| wanted.iter().any(|item| item.assignment_id == *id);
        self.assignments.tasks.retain(|id, _| is_wanted(id));
        self.assignments.services.retain(|id, _| is_wanted(id));
        store::remove_others(&self.state, is_wanted);
        for item in &wanted {
            if !self.read_service(item) {
                self.follow_task(item);
            }
        }
        self.check_assignments();
        self.follow_installs(&wanted);
        self.follow_services();
        self.plan_next_check();
        self.announce_assignments();
    }

    fn follow_task(&mut self, item: &AssignedItem) {
        let id = item.assignment_id;
        let is_known = self.assignments.tasks.get(&id).is_some_and(|task| task.is_of(item));
        if is_known {
            return;
        }
        let cursor = store::cursor(&self.state, id).unwrap_or_else(|| {
            // Due times before the assignment are not missed ones.
            let cursor = CursorRecord { last_due_ms: now_ms(), skipped_count: 0 };
            store::save_cursor(&self.state, id, &cursor);
            cursor
        });
        match Task::of(item, cursor) {
            Ok(task) => {
                self.assignments.tasks.insert(id, task);
            }
            Err(_) => {
                // The check of the assignment reports why.
                self.assignments.tasks.remove(&id);
            }
        }
    }

    /// False if the package is no service.
    fn read_service(&mut self, item: &AssignedItem) -> bool {
        let id = item.assignment_id;
        let known = self.assignments.services.remove(&id);
        let record = match known {
            Some(service) if service.is_of(item) => {
                self.assignments.services.insert(id, service);
                return true;
            }
            Some(service) => service.record().clone(),
            None => store::service(&self.state, id),
        };
        let service = Service::of(item, record);
        let is_service = service.is_some();
        self.assignments.services.extend(service.map(|service| (id, service)));
        is_service
    }

    /// Decides again which assignments the host runs: its policy may have changed.
    pub(super) fn check_assignments(&mut self) {
        let Assignments { planner: Some(planner), list, tasks, services, .. } =
            &mut self.assignments
        else {
            return;
        };
        let check = |item: &AssignedItem| {
            let refusal = if !list.is_permitted {
                Some(RunRefusal::not_permitted())
            } else {
                // What is not downloaded is no refusal: the state says so.
                let planned = planner.plan(item).err().filter(|it| !it.is_not_downloaded());
                planned.or_else(|| {
                    let id = &item.assignment_id;
                    let is_read = tasks.contains_key(id) || services.contains_key(id);
                    (!is_read).then(RunRefusal::not_runnable)
                })
            };
            refusal.map(|refusal| (item.assignment_id, refusal))
        };
        let refusals: BTreeMap<Uuid, RunRefusal> = list.items.iter().filter_map(check).collect();
        if refusals != self.assignments.refusals {
            self.assignments.refusals = refusals;
            // What is refused no more is downloaded now.
            self.follow_installs(&self.assignments.list.items.clone());
        }
    }

    /// How far the host is with each assignment.
    pub fn assignment_reports(&self) -> Vec<AssignmentReport> {
        let known = &self.assignments;
        let report = |item: &AssignedItem| {
            let id = item.assignment_id;
            let failure = known
                .refusals
                .get(&id)
                .map(|refusal| (refusal.code.clone(), refusal.message.clone()))
                .or_else(|| known.installs.get(&id).and_then(Install::failure));
            let is_kept = known.installs.get(&id).is_some_and(Install::is_kept);
            let state = match (&failure, is_kept) {
                (Some(_), _) => AssignmentState::Failed,
                (None, true) => AssignmentState::Installed,
                (None, false) => AssignmentState::Downloading,
            };
            let bounded = |text: String, most: usize| text.chars().take(most).collect::<String>();
            let (error_code, error) = failure.unzip();
            AssignmentReport {
                assignment_id: id,
                version: bounded(item.package.version.clone(), MAX_VERSION_CHARS),
                state,
                error_code,
                error: error.map(|error| bounded(error, MAX_ERROR_CHARS)),
                skipped_count: known.tasks.get(&id).map_or(0, |task| task.cursor.skipped_count),
                service: self.service_report(item),
            }
        };
        known.list.items.iter().map(report).collect()
    }

    /// Announces the states if they are not those that were announced last.
    pub(super) fn announce_assignments(&mut self) {
        let reports = self.assignment_reports();
        if reports != self.assignments.announced {
            self.assignments.announced = reports;
            self.events.push_back(ExecutionEvent::AssignmentsChanged);
        }
    }
}

/// The host's clock, in milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    i64::try_from(unix_ms()).unwrap_or(i64::MAX)
}
