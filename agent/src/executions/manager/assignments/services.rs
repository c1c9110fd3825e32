//! Services of this host: each has at most one run, which is an execution of its own and outlives the agent.

use std::time::Duration;

use muster_protocol::frame::Outcome;
use muster_protocol::limits::CANCEL_GRACE_MS;
use muster_protocol::package::{
    AssignedItem, MAX_SERVICE_OUTPUT_BYTES, SERVICE_TIMEOUT_MS, ServiceReport, ServiceSettings,
    ServiceState, TaskRun, open_document,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::run_planner::SPOOL_FULL;
use super::service_rule::{ServiceFacts, ServiceRecord, ServiceRunEnd, ServiceStep};

use super::{Install, KeptList, MAX_TASK_OUTPUT_BYTES, RunRefusal, store};
use crate::clock::unix_ms;
use crate::executions::ledger::record::{Launch, ServiceStatus};
use crate::executions::ledger::{KnownState, Phase};
use crate::executions::manager::ExecutionManager;
use crate::storage;

/// How soon the status that a shim has written is reported.
pub(super) const STATUS_DELAY: Duration = Duration::from_secs(1);
/// Refusals that do not end a service that runs: the disk is full, or the signature of its version has expired
/// since it started.
const ONLY_OF_STARTS: [&str; 2] = ["no_space", "signature_expired"];

/// A service that is assigned to this host.
#[derive(Debug)]
pub(super) struct Service {
    /// SHA-256 of its document.
    document_sha256: String,
    settings: ServiceSettings,
    record: ServiceRecord,
}

/// A run that has not ended.
#[derive(Debug)]
struct OpenRun {
    command_id: Uuid,
    assignment_id: Uuid,
    started_at_ms: u64,
    document_sha256: String,
}

impl Service {
    /// The settings of a package; `None` if it is no service that this agent understands.
    pub fn of(item: &AssignedItem, record: ServiceRecord) -> Option<Self> {
        let document = open_document(&item.document, &item.name, &item.package).ok()?;
        let settings = document.service?;
        Some(Self { document_sha256: item.package.document_sha256.clone(), settings, record })
    }

    pub fn is_of(&self, item: &AssignedItem) -> bool {
        self.document_sha256 == item.package.document_sha256
    }

    pub fn record(&self) -> &ServiceRecord {
        &self.record
    }

    /// The time until its next start.
    pub fn restart_left(&self) -> Option<Duration> {
        self.record.restart_left(unix_ms())
    }

    /// True if its shim writes a status that changes.
    pub fn has_status(&self) -> bool {
        self.settings.health.is_some() || self.settings.has_limits()
    }
}

impl ExecutionManager {
    /// Ends all services and forgets all assignments, durably, because no agent process will watch them. Returns when
    /// they have ended, or the time is up.
    pub async fn end_services(&mut self, within: Duration) {
        let empty = KeptList { items: Vec::new(), ..self.assignments.list.clone() };
        if let Err(error) = store::save(&self.state, &empty) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "failed to store that nothing is assigned to this host");
        }
        // Nothing starts again without a planner.
        self.assignments.end_all();
        for run in self.open_service_runs() {
            self.cancel(run.command_id, CANCEL_GRACE_MS);
        }
        let deadline = Instant::now() + within;
        while !self.open_service_runs().is_empty() {
            if tokio::time::timeout_at(deadline, self.next()).await.is_err() {
                tracing::error!("a service has not ended in time");
                return;
            }
        }
    }

    /// Starts and ends services as they must be now.
    pub(in crate::executions::manager) fn follow_services(&mut self) {
        if self.assignments.planner.is_none() {
            return;
        }
        let open = self.open_service_runs();
        for run in &open {
            if !self.assignments.services.contains_key(&run.assignment_id) {
                self.cancel(run.command_id, CANCEL_GRACE_MS);
            }
        }
        for item in self.assignments.list.items.clone() {
            let run = open.iter().find(|run| run.assignment_id == item.assignment_id);
            self.follow_service(&item, run);
        }
        self.plan_restarts();
        self.announce_assignments();
    }

    /// Wakes for the next start. An earlier check stays planned.
    fn plan_restarts(&mut self) {
        let planned = self.assignments.next_check_at.filter(|at| *at > Instant::now());
        self.plan_next_check();
        let next = &mut self.assignments.next_check_at;
        *next = planned.into_iter().chain(*next).min();
    }

    fn follow_service(&mut self, item: &AssignedItem, run: Option<&OpenRun>) {
        let id = item.assignment_id;
        let before = match self.assignments.services.get(&id) {
            Some(service) => service.record.clone(),
            None => return,
        };
        let ended = run.is_none().then(|| self.end_of_run(id, &before)).flatten();
        let facts = self.service_facts(item, run.is_some());
        let Some(service) = self.assignments.services.get_mut(&id) else { return };
        match (run, ended) {
            (Some(run), _) => service.record.adopt(&run.document_sha256, run.started_at_ms),
            (None, Some(end)) => {
                tracing::info!(assignment_id = %id, outcome = ?end.outcome, "a service has ended");
                service.record.note_end(end, service.settings.restart, facts.now_ms);
            }
            (None, None) => service.record.has_run = false,
        }
        let step = service.record.next_step(facts);
        let grace_ms = service.settings.stop_grace_ms.unwrap_or(CANCEL_GRACE_MS);
        if service.record != before {
            let record = service.record.clone();
            store::save_service(&self.state, id, &record);
        }
        match (step, run) {
            (ServiceStep::End, Some(run)) => self.cancel(run.command_id, grace_ms),
            (ServiceStep::Start, None) => self.start_service(item),
            (ServiceStep::Start | ServiceStep::End | ServiceStep::Keep, _) => {}
        }
    }

    fn start_service(&mut self, item: &AssignedItem) {
        let id = item.assignment_id;
        let started = self.accept_service_run(item);
        let facts = self.service_facts(item, started.is_ok());
        let Some(service) = self.assignments.services.get_mut(&id) else { return };
        match started {
            Ok(started_at_ms) => service.record.note_start(facts, started_at_ms),
            Err(refusal) => {
                tracing::warn!(assignment_id = %id, code = refusal.code, "a service can't start: {}", refusal.message);
                let is_failure = refusal.code != SPOOL_FULL;
                service.record.note_refusal(&refusal.code, is_failure, facts.now_ms);
            }
        }
        let record = service.record.clone();
        store::save_service(&self.state, id, &record);
        self.plan_next_check();
        self.start_waiting();
    }

    /// Accepts a run durably, and returns when it was started.
    fn accept_service_run(&mut self, item: &AssignedItem) -> Result<u64, RunRefusal> {
        let list = &self.assignments.list;
        if !list.is_permitted {
            return Err(RunRefusal::not_permitted());
        }
        let settings = self.assignments.services.get(&item.assignment_id);
        let settings = settings.map(|service| service.settings.clone());
        let settings = settings.ok_or_else(RunRefusal::not_runnable)?;
        let mut run = TaskRun {
            assignment_id: item.assignment_id,
            due_at_ms: unix_ms(),
            package: item.package.clone(),
            timeout_ms: SERVICE_TIMEOUT_MS,
            is_service: true,
        };
        // A clock that was set back meets the ids of earlier runs.
        while self.ledger.known(run.command_id(list.agent_id)) != KnownState::Never {
            run.due_at_ms += 1;
        }
        let spool = self.spool(true);
        if spool.is_full {
            return Err(RunRefusal::spool_full());
        }
        let Some(planner) = &mut self.assignments.planner else {
            return Err(RunRefusal::not_runnable());
        };
        let mut planned = planner.plan(item)?;
        planned.launch = Launch {
            timeout_ms: SERVICE_TIMEOUT_MS,
            service: Some(Box::new(settings)),
            output_limit_bytes: match planned.launch.output_limit_bytes {
                // The owner of the host wants less than any service may keep.
                limit if limit < MAX_TASK_OUTPUT_BYTES => limit,
                _ => MAX_SERVICE_OUTPUT_BYTES,
            },
            ..planned.launch
        };
        if spool.is_over_bytes {
            // It runs nevertheless; its output is marked as cut.
            planned.launch.output_limit_bytes = 0;
        }
        let started_at_ms = run.due_at_ms;
        self.accept_run(run, planned, None)?;
        Ok(started_at_ms)
    }

    /// How the last run of a service ended; `None` if it has none whose end was not handled.
    fn end_of_run(&self, assignment_id: Uuid, record: &ServiceRecord) -> Option<ServiceRunEnd> {
        let started_at_ms = record.started_at_ms.filter(|_| record.has_run)?;
        let agent_id = self.assignments.list.agent_id;
        let command_id = TaskRun::id(agent_id, assignment_id, started_at_ms);
        let response = self.ledger.response(command_id);
        let measured = response.as_ref().and_then(|it| it.data.get("duration_ms")?.as_u64());
        let duration_ms = measured.unwrap_or_else(|| unix_ms().saturating_sub(started_at_ms));
        let outcome = response.as_ref().and_then(|response| response.outcome);
        Some(ServiceRunEnd {
            // The ledger may have been cleared after the run.
            outcome: outcome.unwrap_or(Outcome::Lost),
            error_code: response.and_then(|response| response.error_code),
            duration_ms,
        })
    }

    fn open_service_runs(&self) -> Vec<OpenRun> {
        let open = self.ledger.entries().filter(|(_, entry)| entry.phase != Phase::Settled);
        let runs = open.filter_map(|(command_id, entry)| {
            let run = entry.task.as_ref().filter(|run| run.is_service)?;
            Some(OpenRun {
                command_id,
                assignment_id: run.assignment_id,
                started_at_ms: run.due_at_ms,
                document_sha256: run.package.document_sha256.clone(),
            })
        });
        runs.collect()
    }

    fn service_facts<'a>(&self, item: &'a AssignedItem, is_running: bool) -> ServiceFacts<'a> {
        let known = &self.assignments;
        let refusal = known.refusals.get(&item.assignment_id);
        ServiceFacts {
            document_sha256: &item.package.document_sha256,
            control: item.control.unwrap_or_default(),
            is_refused: refusal.is_some_and(|refusal| {
                !(is_running && ONLY_OF_STARTS.contains(&refusal.code.as_str()))
            }),
            is_installed: known.installs.get(&item.assignment_id).is_some_and(Install::is_kept),
            is_running,
            now_ms: unix_ms(),
        }
    }

    /// What this host reports about a service.
    pub(super) fn service_report(&self, item: &AssignedItem) -> Option<ServiceReport> {
        let service = self.assignments.services.get(&item.assignment_id)?;
        let run = self.open_service_runs();
        let run = run.iter().find(|run| run.assignment_id == item.assignment_id);
        let record = service.record();
        let state = record.state(self.service_facts(item, run.is_some()));
        let status = run.filter(|_| service.has_status()).and_then(|run| {
            let path = self.state.execution(run.command_id).status();
            storage::read_sealed::<ServiceStatus>(&path).ok().flatten()
        });
        Some(ServiceReport {
            state,
            started_at_ms: record.started_at_ms,
            restart_count: record.restart_count,
            restart_at_ms: record.restart_at_ms.filter(|_| state == ServiceState::Backoff),
            last_outcome: record.last_outcome,
            last_error_code: record.last_error_code.clone(),
            health: status.as_ref().and_then(|status| status.health),
            limits: status.and_then(|status| status.limits),
        })
    }
}
