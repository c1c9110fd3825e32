//! Stores the runs of tasks and services that hosts have started themselves, each as a command with its audit entry.

mod versions;

use std::collections::{HashMap, HashSet, VecDeque};

use muster_protocol::CommandName;
use muster_protocol::limits::SETTLED_RETENTION_MS;
use muster_protocol::package::TaskRun;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use serde_json::json;

use self::versions::Versions;
use crate::domain::access::principal::ActorKind;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, AssignmentId, AuditId, CommandId, TenantId};
use crate::domain::library::assignment_records::{AssignedKind, AssignmentRecord};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::command;
use crate::store::entities::library::assignment;
use crate::store::entities::operations::storage_purge;
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST, rows};

/// Most starts of a service on an agent within an hour of its clock. The delays between the restarts of a host allow
/// fewer, also with restarts that people ask for.
pub const MAX_SERVICE_STARTS_PER_HOUR: usize = 120;
const HOUR_MS: u64 = 3_600_000;
/// How far the clock of a host may be ahead.
const MAX_AHEAD_MS: u64 = 24 * 3_600_000;

/// The new commands, and those that the agent has already, each with how much of its newest output is kept, if
/// older output is removed. All others are unknown: without an assignment of the tenant there is no run.
pub type RecordedRuns = HashMap<CommandId, Option<u64>>;

/// Stores runs of tasks that an agent announces. A run that is known already stays as it is.
pub struct RecordTaskRuns {
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub epoch: i64,
    /// What the agent reports, checked for its size.
    pub runs: Vec<TaskRun>,
    pub lost_after_ms: u64,
    /// Of the audit entries.
    pub action: &'static str,
    pub now: Timestamp,
}

impl BatchOperation for RecordTaskRuns {
    type Done = RecordedRuns;

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<RecordedRuns, StoreError>>, DbErr> {
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            results.push(match epochs.check(operation.agent_id, operation.epoch) {
                Ok(()) => Ok(operation.write(tx).await?),
                Err(error) => Err(error),
            });
        }
        Ok(results)
    }
}

impl RecordTaskRuns {
    async fn write(&self, tx: &WriteTx<'_>) -> Result<RecordedRuns, DbErr> {
        let assignments = self.assignments(tx).await?;
        let versions = self.versions(tx, &assignments).await?;
        let purged_before = self.purged_before(tx).await?;
        let mut owners = self.known_owners(tx).await?;
        let mut stored = RecordedRuns::new();
        let (mut commands, mut entries) = (Vec::new(), Vec::new());
        let mut starts = self.known_starts(tx, &assignments).await?;
        // A host may report its runs in any order.
        let mut runs: Vec<&TaskRun> = self.runs.iter().collect();
        runs.sort_by_key(|run| run.due_at_ms);
        for run in runs {
            let id = CommandId(run.command_id(self.agent_id.0));
            let Some(assignment) = assignments.get(&AssignmentId(run.assignment_id)) else {
                continue;
            };
            match owners.get(&id) {
                Some((owner, max_log_bytes)) if *owner == self.agent_id => {
                    stored.insert(id, max_log_bytes.map(i64::cast_unsigned));
                }
                Some(_) => {}
                None if !self.is_plausible(run, assignment, &versions) => {}
                // It was recorded and deleted, or is as old as what was.
                None if self.start_of(run) < purged_before => {}
                None if run.is_service
                    && !starts.entry(assignment.id).or_default().admit(self.start_of(run)) => {}
                None => {
                    let row = command::Model {
                        max_log_bytes: versions.log_bytes(run, assignment).map(u64::cast_signed),
                        ..self.command(id, run, assignment)
                    };
                    owners.insert(id, (self.agent_id, row.max_log_bytes));
                    stored.insert(id, row.max_log_bytes.map(i64::cast_unsigned));
                    entries.push(self.audit(&row, run));
                    commands.push(row.into_active_model());
                }
            }
        }
        if !commands.is_empty() {
            rows::insert(tx.transaction, commands, None).await?;
            tx.audit.append(entries);
        }
        Ok(stored)
    }

    /// Also those that are deleted: the run was started before the host got to know that.
    async fn assignments(
        &self,
        tx: &WriteTx<'_>,
    ) -> Result<HashMap<AssignmentId, AssignmentRecord>, DbErr> {
        let mut found = HashMap::new();
        let ids: HashSet<_> = self.runs.iter().map(|run| AssignmentId(run.assignment_id)).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        for ids in ids.chunks(MAX_LIST) {
            let rows = assignment::Entity::find()
                .filter(assignment::Column::TenantId.eq(self.tenant_id))
                .filter(assignment::Column::Id.is_in(pad_to_power_of_two(ids.iter().copied())))
                .all(tx.transaction)
                .await?;
            found.extend(rows.into_iter().map(|row| (row.id, row.into())));
        }
        Ok(found)
    }

    /// History from before this instant was deleted on request.
    async fn purged_before(&self, tx: &WriteTx<'_>) -> Result<Timestamp, DbErr> {
        let last = storage_purge::Entity::find_by_id(self.tenant_id).all(tx.transaction).await?;
        Ok(last.first().map_or(Timestamp(0), |purge| purge.history_before))
    }

    /// The agents of the commands that exist already, and how much of their newest output is kept.
    async fn known_owners(
        &self,
        tx: &WriteTx<'_>,
    ) -> Result<HashMap<CommandId, (AgentId, Option<i64>)>, DbErr> {
        let ids: Vec<_> =
            self.runs.iter().map(|run| CommandId(run.command_id(self.agent_id.0))).collect();
        let mut known = HashMap::new();
        for ids in ids.chunks(MAX_LIST) {
            let rows: Vec<(CommandId, AgentId, Option<i64>)> = command::Entity::find()
                .select_only()
                .column(command::Column::Id)
                .column(command::Column::AgentId)
                .column(command::Column::MaxLogBytes)
                .filter(command::Column::Id.is_in(pad_to_power_of_two(ids.iter().copied())))
                .into_tuple()
                .all(tx.transaction)
                .await?;
            known.extend(rows.into_iter().map(|(id, agent, bytes)| (id, (agent, bytes))));
        }
        Ok(known)
    }

    /// The last starts of the services among the runs, as far as they are known. Runs of a service are bounded by
    /// them, and those of a task by its schedule.
    async fn known_starts(
        &self,
        tx: &WriteTx<'_>,
        assignments: &HashMap<AssignmentId, AssignmentRecord>,
    ) -> Result<HashMap<AssignmentId, ServiceStarts>, DbErr> {
        let services: HashSet<AssignmentId> = self
            .runs
            .iter()
            .filter(|run| run.is_service)
            .map(|run| AssignmentId(run.assignment_id))
            .collect();
        let mut known = HashMap::new();
        for assignment in services.iter().filter_map(|id| assignments.get(id)) {
            let script = assignment.script();
            let of_service = format!("%\"assignment_id\":\"{}\"%", assignment.id.0);
            let mut latest: Vec<Timestamp> = command::Entity::find()
                .select_only()
                .column(command::Column::CreatedAt)
                .filter(command::Column::AgentId.eq(self.agent_id))
                .filter(command::Column::Script.eq(script))
                // In the very words of the index.
                .filter(Expr::cust("trigger = 'service'"))
                .filter(command::Column::Data.like(of_service))
                .order_by_desc(command::Column::CreatedAt)
                .limit(MAX_SERVICE_STARTS_PER_HOUR as u64)
                .into_tuple()
                .all(tx.transaction)
                .await?;
            latest.reverse();
            known.insert(assignment.id, ServiceStarts(latest.into()));
        }
        Ok(known)
    }

    /// When a run was started, by the clock of the host, but not later than now.
    fn start_of(&self, run: &TaskRun) -> Timestamp {
        Timestamp(i64::try_from(run.due_at_ms).unwrap_or(i64::MAX)).min(self.now)
    }

    /// Hosts keep results for a limited time, so nothing older can be due. A service that runs longer is
    /// known already.
    fn is_plausible(&self, run: &TaskRun, of: &AssignmentRecord, versions: &Versions) -> bool {
        let due_at = Timestamp(i64::try_from(run.due_at_ms).unwrap_or(i64::MAX));
        run.is_service == (of.kind == AssignedKind::Service)
            && versions.may_have(run, of)
            && of.created_at <= due_at.plus_ms(MAX_AHEAD_MS)
            && self.now.minus_ms(SETTLED_RETENTION_MS) <= due_at
            && due_at <= self.now.plus_ms(MAX_AHEAD_MS)
    }

    fn command(&self, id: CommandId, run: &TaskRun, of: &AssignmentRecord) -> command::Model {
        let due_at = Timestamp(i64::try_from(run.due_at_ms).unwrap_or(i64::MAX));
        let script = of.script();
        let mut data = json!({"script": script, "parameters": of.parameters()});
        match of.kind {
            AssignedKind::Task | AssignedKind::Service => data["package"] = json!(run.package),
            AssignedKind::Script => data["library"] = json!(run.package.of_script()),
        }
        if run.is_service {
            data["service"] = json!({"assignment_id": of.id, "started_at": due_at});
        } else {
            data["timeout_ms"] = run.timeout_ms.into();
            data["task"] = json!({"assignment_id": of.id, "due_at": due_at});
        }
        let row = command::NewCommand {
            id,
            tenant_id: self.tenant_id,
            agent_id: self.agent_id,
            name: CommandName::Execute,
            data: data.to_string(),
            sealed_parameters: None,
            requested_by: of.created_by,
            requested_from: None,
            created_at: self.start_of(run),
            expires_in_ms: self.lost_after_ms,
            timeout_ms: run.timeout_ms,
            lost_after_ms: self.lost_after_ms,
            job_id: None,
            script: Some(script),
            trigger: if run.is_service { Trigger::Service } else { Trigger::Task },
            retry_of: None,
            lock_name: None,
            request_id: None,
        };
        command::Model {
            state: CommandState::Delivered,
            delivered_at: Some(self.now),
            ..row.into_row()
        }
    }

    fn audit(&self, row: &command::Model, run: &TaskRun) -> audit_entry::Model {
        let detail = json!({
            "agent_id": row.agent_id,
            "assignment_id": run.assignment_id,
            "due_at": Timestamp(i64::try_from(run.due_at_ms).unwrap_or(i64::MAX)),
            "script": row.script,
            "version": run.package.version,
        });
        audit_entry::Model {
            id: AuditId::new(),
            tenant_id: self.tenant_id,
            link: 0,
            at: self.now,
            actor_kind: ActorKind::Agent,
            actor_id: Some(self.agent_id.0),
            session_id: None,
            action: self.action.to_owned(),
            subject_kind: "command".to_owned(),
            subject_id: Some(row.id.0),
            detail: detail.to_string(),
            source: None,
        }
    }
}

/// The last starts of a service on one agent, the earliest first.
#[derive(Debug, Default)]
struct ServiceStarts(VecDeque<Timestamp>);

impl ServiceStarts {
    /// Adds a start if there can be one more: not before the last one, and not too many within an hour.
    fn admit(&mut self, start: Timestamp) -> bool {
        if self.0.back().is_some_and(|last| start < *last) {
            return false;
        }
        while self.0.front().is_some_and(|first| *first <= start.minus_ms(HOUR_MS)) {
            self.0.pop_front();
        }
        let is_free = self.0.len() < MAX_SERVICE_STARTS_PER_HOUR;
        if is_free {
            self.0.push_back(start);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_hour_has_more_starts_of_a_service_than_its_budget(
            starts in prop::collection::vec(0_i64..4 * 3_600_000, 0..1_000),
        ) {
            let mut known = ServiceStarts::default();
            let admitted: Vec<i64> =
                starts.into_iter().filter(|start| known.admit(Timestamp(*start))).collect();
            prop_assert!(admitted.is_sorted());
            for (number, start) in admitted.iter().enumerate() {
                let within = admitted[number..].iter().filter(|other| **other - start < 3_600_000);
                prop_assert!(within.count() <= MAX_SERVICE_STARTS_PER_HOUR);
            }
        }
    }
}
