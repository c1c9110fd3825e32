//! Frames about assignments: what the host has, and the runs of tasks that it has started itself.

use std::collections::HashSet;

use muster_protocol::frame::{ErrorCode, ServerFrame};
use muster_protocol::library::sha256_hex;
use muster_protocol::limits::MAX_TIMEOUT_MS;
use muster_protocol::package::{
    AssignedItem, AssignmentReport, MAX_AGENT_ASSIGNMENTS, PackagePin, SERVICE_TIMEOUT_MS,
    ServiceReport, TaskRun, is_package_version,
};

use super::MAX_ERROR_CHARS;
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::services::sessions::live::{CommitAck, LiveSession, VIOLATION};
use crate::services::sessions::{AgentTransport, SessionEnd};
use crate::store::writer::{RecordAssignmentStates, RecordTaskRuns};

/// Most runs of tasks that an agent announces before its inventory.
const MAX_TASK_RUNS: usize = 2_000;
/// Longest stored version, and code of an error, in characters.
const MAX_REPORTED_WORD_CHARS: usize = 64;
/// Latest instant of a report about a service: the year 9999.
const MAX_REPORTED_INSTANT: u64 = 253_402_300_799_999;
/// Most restarts of a service that a report counts.
const MAX_RESTART_COUNT: u64 = 1_000_000_000;

impl LiveSession {
    /// Sends a list of assignments, unless it is the one that was sent last.
    pub(in crate::services::sessions) fn assignments_frame(
        &mut self,
        items: Vec<AssignedItem>,
    ) -> Option<ServerFrame> {
        let text = serde_json::to_string(&items).unwrap_or_default();
        let digest = sha256_hex(text.as_bytes());
        if self.inbound.sent_assignments.as_ref() == Some(&digest) {
            return None;
        }
        self.inbound.sent_assignments = Some(digest);
        self.inbound.assignments_revision += 1;
        Some(ServerFrame::Assignments { revision: self.inbound.assignments_revision, items })
    }

    /// Stores how far the host is. States about an older list are followed by others.
    pub(super) async fn assignment_states(
        &mut self,
        revision: u64,
        reports: Vec<AssignmentReport>,
    ) -> Result<(), SessionEnd> {
        if reports.len() > MAX_AGENT_ASSIGNMENTS {
            return Err(VIOLATION);
        }
        if revision != self.inbound.assignments_revision {
            return Ok(());
        }
        let mut seen = HashSet::new();
        let reports = reports.into_iter().filter(|report| seen.insert(report.assignment_id));
        let reports = reports.map(|report| AssignmentReport {
            version: clean(&report.version, MAX_REPORTED_WORD_CHARS),
            error_code: report.error_code.map(|code| clean(&code, MAX_REPORTED_WORD_CHARS)),
            error: report.error.map(|error| clean(&error, MAX_ERROR_CHARS)),
            service: report.service.map(bounded),
            ..report
        });
        let operation = RecordAssignmentStates {
            tenant_id: self.handle.tenant_id,
            agent_id: self.handle.agent_id,
            epoch: self.handle.epoch,
            reports: reports.collect(),
            now: self.service.clock.now(),
        };
        let stored = self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
        self.pending.push_back(Box::pin(async move {
            stored.await?;
            Ok(CommitAck::None)
        }));
        Ok(())
    }

    /// Takes a run that the host has started. Before the inventory ends, runs are collected.
    pub(super) async fn task_run<T: AgentTransport>(
        &mut self,
        run: TaskRun,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        if !is_valid(&run) {
            let message = "the run of a task or service names no version of a package".to_owned();
            return self.refuse(ErrorCode::InvalidFrame, message, transport).await;
        }
        if self.inbound.inventory.is_some() {
            if self.inbound.task_runs.len() >= MAX_TASK_RUNS {
                return Err(VIOLATION);
            }
            self.inbound.task_runs.push(run);
            return Ok(());
        }
        let command_id = CommandId(run.command_id(self.handle.agent_id.0));
        // The agent sends `started` at once, and output once this is acknowledged.
        self.output.track_new(command_id);
        let operation = self.record_runs(vec![run]);
        let stored = self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
        self.pending.push_back(Box::pin(async move {
            let known = stored.await?.get(&command_id).copied();
            Ok(CommitAck::TaskRun { command_id, known })
        }));
        Ok(())
    }

    /// Stores the runs that were announced before the inventory, which lists them. They must be there when
    /// it is reconciled.
    pub(super) async fn store_announced_runs(&mut self) -> Result<(), SessionEnd> {
        let runs = std::mem::take(&mut self.inbound.task_runs);
        if runs.is_empty() {
            return Ok(());
        }
        let operation = self.record_runs(runs);
        let stored = self.service.store.writer().commit(operation).await;
        let stored = stored.map_err(|error| {
            tracing::warn!(agent_id = %self.handle.agent_id, %error, "failed to store the runs of tasks");
            SessionEnd::Closed(muster_protocol::CloseCode::TryAgainLater)
        })?;
        stored.keys().for_each(|id| self.service.hub.notify_progress(*id));
        Ok(())
    }

    fn record_runs(&self, runs: Vec<TaskRun>) -> RecordTaskRuns {
        RecordTaskRuns {
            tenant_id: self.handle.tenant_id,
            agent_id: self.handle.agent_id,
            epoch: self.handle.epoch,
            runs,
            lost_after_ms: self.service.settings.lost_after_ms,
            action: "command.run",
            now: self.service.clock.now(),
        }
    }
}

/// True if everything that an agent reports about a run is bounded.
fn is_valid(run: &TaskRun) -> bool {
    let PackagePin { version, sha256, document_sha256 } = &run.package;
    let is_hash =
        |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_package_version(version)
        && is_hash(sha256)
        && is_hash(document_sha256)
        && match run.is_service {
            true => run.timeout_ms == SERVICE_TIMEOUT_MS,
            false => (1..=MAX_TIMEOUT_MS).contains(&run.timeout_ms),
        }
}

/// What an agent reports about a service, with bounds that the database and the API can hold.
fn bounded(report: ServiceReport) -> ServiceReport {
    let instant = |ms: u64| ms.min(MAX_REPORTED_INSTANT);
    ServiceReport {
        started_at_ms: report.started_at_ms.map(instant),
        restart_at_ms: report.restart_at_ms.map(instant),
        restart_count: report.restart_count.min(MAX_RESTART_COUNT),
        last_error_code: report.last_error_code.map(|code| clean(&code, MAX_REPORTED_WORD_CHARS)),
        ..report
    }
}
