//! Assignments, what hosts report about them, and the runs that hosts have started themselves.

use std::collections::HashSet;

use muster_protocol::frame::Outcome;
use muster_protocol::library::sha256_hex;
use muster_protocol::limits::SETTLED_RETENTION_MS;
use muster_protocol::package::{AssignmentReport, AssignmentState, PackagePin, TaskRun};
use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::commands::trigger::Trigger;
use muster_server::domain::ids::{
    AgentKeyId, AssignmentId, CommandId, PackageId, PrincipalId, TenantId,
};
use muster_server::domain::library::assignment_records::AssignedKind;
use muster_server::domain::operations::storage::purge::StoragePurge;
use muster_server::domain::page::PageRequest;
use muster_server::domain::time::Timestamp;
use muster_server::store::StoreError;
use muster_server::store::entities::library::{assignment, package};
use muster_server::store::queries::{AssignmentLimits, PackageLimits};
use muster_server::store::writer::{
    OpenedSession, Reconcile, RecordAssignmentStates, RecordTaskRuns,
};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_due_time_has_one_run_however_often_it_is_announced,
    a_run_without_an_assignment_of_the_tenant_is_unknown,
    a_run_that_is_new_after_the_inventory_is_not_missing_in_it,
    reports_replace_those_before_and_speak_of_the_tenant_only,
    an_assignment_keeps_its_package_and_its_name,
    a_run_of_a_version_that_the_assignment_never_named_is_unknown,
    a_run_that_was_purged_is_not_recorded_again,
);

/// A document is read as far as it is known.
const DOCUMENT: &str = r#"{"format":1,"name":"tick","version":"1","kind":"task","executor":"sh","entry":"a","schedule":{"every_ms":5},"sha256":"a","archive_bytes":1,"unpacked_bytes":1}"#;
const LIMITS: AssignmentLimits = AssignmentLimits { count: 3, with_deleted: 4 };

impl Fixture {
    pub(super) async fn package(&self, tenant_id: TenantId) -> PackageId {
        self.package_named(tenant_id, "tick").await
    }

    pub(super) async fn package_named(&self, tenant_id: TenantId, name: &str) -> PackageId {
        let row = package::Model {
            id: PackageId::new(),
            tenant_id,
            name: name.into(),
            version: "1".into(),
            document: DOCUMENT.into(),
            sha256: "a".repeat(64),
            format: "zip".into(),
            archive_bytes: 1,
            unpacked_bytes: 1,
            entry_count: 1,
            created_by: PrincipalId(Uuid::nil()),
            created_at: NOW,
        };
        let (id, tenant) = (row.id, self.store.tenant(tenant_id));
        let limits = PackageLimits { count: 10, bytes: 10 };
        tenant.create_package(row, limits, audit(tenant_id)).await.expect("create a package");
        id
    }

    async fn assign(
        &self,
        tenant_id: TenantId,
        content_id: PackageId,
        name: &str,
    ) -> Result<AssignmentId, StoreError> {
        self.assign_kind(tenant_id, content_id, name, AssignedKind::Task).await
    }

    pub(super) async fn assign_kind(
        &self,
        tenant_id: TenantId,
        content_id: PackageId,
        name: &str,
        kind: AssignedKind,
    ) -> Result<AssignmentId, StoreError> {
        let row = assignment::Model {
            id: AssignmentId::new(),
            tenant_id,
            name: name.into(),
            content_id: content_id.into(),
            content_name: "tick".into(),
            content_version: "1".into(),
            kind,
            schedule: None,
            target: r#"{"expression":"all"}"#.into(),
            parameters: r#"{"WHO":"you"}"#.into(),
            created_by: PrincipalId(Uuid::nil()),
            created_at: NOW,
            changed_at: NOW,
            deleted_at: None,
        };
        let (id, tenant) = (row.id, self.store.tenant(tenant_id));
        tenant.create_assignment(row, None, LIMITS, audit(tenant_id)).await.map(|()| id)
    }

    async fn assigned(&self) -> AssignmentId {
        let package = self.package(self.tenant_id).await;
        self.assign(self.tenant_id, package, "one").await.expect("assign")
    }

    pub(super) async fn announce(
        &self,
        session: &OpenedSession,
        runs: Vec<TaskRun>,
    ) -> Result<HashSet<CommandId>, StoreError> {
        let stored = self.store.writer().commit(self.announcement(session, runs)).await?;
        Ok(stored.into_keys().collect())
    }

    fn announcement(&self, session: &OpenedSession, runs: Vec<TaskRun>) -> RecordTaskRuns {
        RecordTaskRuns {
            tenant_id: self.tenant_id,
            agent_id: session.agent_id,
            epoch: session.epoch,
            runs,
            lost_after_ms: 10_000,
            action: "command.run",
            now: NOW,
        }
    }

    pub(super) async fn stored_state(
        &self,
        id: CommandId,
    ) -> Option<(CommandState, Timestamp, Trigger)> {
        let found = self.store.tenant(self.tenant_id).command(id).await.expect("read")?;
        let command = found.command;
        Some((command.state, command.created_at, command.trigger))
    }
}

pub(super) fn run(of: AssignmentId, due_at: Timestamp) -> TaskRun {
    TaskRun {
        assignment_id: of.0,
        due_at_ms: due_at.0.cast_unsigned(),
        package: PackagePin {
            version: "1".into(),
            sha256: "a".repeat(64),
            document_sha256: sha256_hex(DOCUMENT.as_bytes()),
        },
        timeout_ms: 1_000,
        is_service: false,
    }
}

pub(super) fn id_of(session: &OpenedSession, run: &TaskRun) -> CommandId {
    CommandId(run.command_id(session.agent_id.0))
}

async fn a_due_time_has_one_run_however_often_it_is_announced(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let assignment = fixture.assigned().await;
    let due_at = NOW.minus_ms(5_000);
    let (first, second) = (run(assignment, due_at), run(assignment, NOW));
    let ids = HashSet::from([id_of(&session, &first), id_of(&session, &second)]);
    let twice = vec![first.clone(), second.clone(), first.clone()];
    assert_eq!(fixture.announce(&session, twice).await.expect("stored"), ids);
    assert_eq!(fixture.announce(&session, vec![second, first.clone()]).await.expect("known"), ids);
    let id = id_of(&session, &first);
    let state = fixture.stored_state(id).await;
    assert_eq!(state, Some((CommandState::Delivered, due_at, Trigger::Task)));
    fixture.settle(&session, id, Outcome::Succeeded).await;
    // An agent that did not get the receipt announces it again.
    fixture.announce(&session, vec![first]).await.expect("known");
    let state = fixture.stored_state(id).await;
    assert_eq!(state, Some((CommandState::Succeeded, due_at, Trigger::Task)));
    let entries = fixture.audit_entries().await;
    let started: Vec<_> = entries.iter().filter(|entry| entry.action == "command.run").collect();
    assert_eq!(started.len(), 2, "{entries:?}");
    // A newer session of the agent exists.
    let newer = fixture.agent("host").await;
    let stale = fixture.announce(&session, vec![run(assignment, NOW.plus_ms(1))]).await;
    assert!(matches!(stale, Err(StoreError::StaleEpoch)), "{stale:?}");
    assert_ne!(newer.epoch, session.epoch);
}

async fn a_run_without_an_assignment_of_the_tenant_is_unknown(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let other = TenantId::new();
    fixture.make_key(other, AgentKeyId::new(), 1).await;
    let package = fixture.package(other).await;
    let foreign = fixture.assign(other, package, "one").await.expect("assign");
    let own = fixture.assigned().await;
    let too_old = NOW.minus_ms(SETTLED_RETENTION_MS + 1);
    let unknown = vec![
        run(foreign, NOW),
        run(AssignmentId::new(), NOW),
        run(own, too_old),
        run(own, NOW.plus_ms(25 * 3_600_000)),
    ];
    assert_eq!(fixture.announce(&session, unknown.clone()).await.expect("none"), HashSet::new());
    for run in &unknown {
        assert_eq!(fixture.stored_state(id_of(&session, run)).await, None);
    }
    // The host ran it before it got to know that the assignment is deleted.
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.delete_assignment(own, audit(fixture.tenant_id)).await.expect("delete"));
    let late = run(own, NOW);
    let stored = fixture.announce(&session, vec![late.clone()]).await.expect("stored");
    assert_eq!(stored, HashSet::from([id_of(&session, &late)]));
}

async fn a_run_of_a_version_that_the_assignment_never_named_is_unknown(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let own = fixture.assigned().await;
    let named = run(own, NOW);
    let with_version = |version: &str, due_at: Timestamp| {
        let mut other = run(own, due_at);
        other.package.version = version.into();
        other
    };
    let invented = vec![with_version("999", NOW.plus_ms(5)), with_version("01", NOW.plus_ms(10))];
    assert_eq!(fixture.announce(&session, invented).await.expect("none"), HashSet::new());
    let stored = fixture.announce(&session, vec![named.clone()]).await.expect("stored");
    assert_eq!(stored, HashSet::from([id_of(&session, &named)]));
    // It may have named another one before it was deleted, which has no finer schedule than a second.
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.delete_assignment(own, audit(fixture.tenant_id)).await.expect("delete"));
    let second = Timestamp(NOW.0 - NOW.0.rem_euclid(1_000));
    let late = vec![with_version("999", second), with_version("999", second.plus_ms(1))];
    let stored = fixture.announce(&session, late.clone()).await.expect("stored");
    assert_eq!(stored, HashSet::from([id_of(&session, &late[0])]));
}

async fn a_run_that_was_purged_is_not_recorded_again(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let own = fixture.assigned().await;
    let purge = StoragePurge {
        tenant_id: fixture.tenant_id,
        history_before: NOW,
        requested_by: PrincipalId(Uuid::nil()),
        requested_at: NOW,
        finished_at: None,
    };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let requested = tenant.request_storage_purge(purge, audit(fixture.tenant_id)).await;
    assert_eq!(requested.expect("requested"), purge);
    // Its host never got the receipt, and announces it again.
    let purged = run(own, NOW.minus_ms(5));
    assert_eq!(fixture.announce(&session, vec![purged]).await.expect("none"), HashSet::new());
    let later = run(own, NOW.plus_ms(5));
    let stored = fixture.announce(&session, vec![later.clone()]).await.expect("stored");
    assert_eq!(stored, HashSet::from([id_of(&session, &later)]));
}

async fn a_run_that_is_new_after_the_inventory_is_not_missing_in_it(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let new = run(fixture.assigned().await, NOW);
    let inventory = Reconcile {
        agent_id: session.agent_id,
        epoch: session.epoch,
        listed: Vec::new(),
        now: NOW,
    };
    let writer = fixture.store.writer();
    // Queued together, so that both are in one transaction if the writer is busy.
    let delays: Vec<_> =
        (0..20).map(|_| writer.enqueue(fixture.submission(session.agent_id))).collect();
    for delay in delays {
        drop(delay.await.expect("queued"));
    }
    let reconciled = writer.enqueue(inventory).await.expect("queued");
    let announced = fixture.announcement(&session, vec![new.clone()]);
    let announced = writer.enqueue(announced).await.expect("queued");
    reconciled.await.expect("reconciled");
    announced.await.expect("stored");
    let state = fixture.stored_state(id_of(&session, &new)).await.expect("a command");
    assert_eq!(state.0, CommandState::Delivered);
}

async fn reports_replace_those_before_and_speak_of_the_tenant_only(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let own = fixture.assigned().await;
    let report = |assignment_id: Uuid, state: AssignmentState| AssignmentReport {
        assignment_id,
        version: "1".into(),
        state,
        error_code: None,
        error: None,
        skipped_count: u64::MAX,
        service: None,
    };
    let record = async |epoch: i64, reports: Vec<AssignmentReport>| {
        let operation = RecordAssignmentStates {
            tenant_id: fixture.tenant_id,
            agent_id: session.agent_id,
            epoch,
            reports,
            now: NOW,
        };
        fixture.store.writer().commit(operation).await
    };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let states = async || {
        let states = tenant.assignment_states(own, &[session.agent_id]).await.expect("read");
        states.into_values().map(|state| state.state).collect::<Vec<_>>()
    };
    let unknown = report(Uuid::now_v7(), AssignmentState::Installed);
    let first = vec![report(own.0, AssignmentState::Downloading), unknown];
    record(session.epoch, first).await.expect("stored");
    assert_eq!(states().await, ["downloading"]);
    let second = vec![report(own.0, AssignmentState::Installed)];
    record(session.epoch, second.clone()).await.expect("stored");
    assert_eq!(states().await, ["installed"]);
    let stale = record(session.epoch - 1, Vec::new()).await;
    assert!(matches!(stale, Err(StoreError::StaleEpoch)), "{stale:?}");
    assert_eq!(states().await, ["installed"]);
    record(session.epoch, Vec::new()).await.expect("stored");
    assert_eq!(states().await, Vec::<String>::new());
}

async fn an_assignment_keeps_its_package_and_its_name(fixture: Fixture) {
    let tenant_id = fixture.tenant_id;
    let tenant = fixture.store.tenant(tenant_id);
    let package = fixture.package(tenant_id).await;
    let first = fixture.assign(tenant_id, package, "one").await.expect("assign");
    let refused = |result: Result<AssignmentId, StoreError>| match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    refused(fixture.assign(tenant_id, package, "one").await);
    refused(fixture.assign(tenant_id, PackageId::new(), "two").await);
    let assigned = tenant.delete_package(package, audit(tenant_id)).await;
    assert!(matches!(assigned, Err(StoreError::Refused(_))), "{assigned:?}");
    assert_eq!(tenant.wanted_assignments(NOW).await.expect("read").len(), 1);
    let with = fixture.store.system().tenants_with_assignments().await.expect("read");
    assert_eq!(with, [tenant_id]);
    assert!(tenant.delete_assignment(first, audit(tenant_id)).await.expect("delete"));
    assert!(!tenant.delete_assignment(first, audit(tenant_id)).await.expect("gone"));
    assert_eq!(tenant.assignment(first).await.expect("read"), None);
    let page = PageRequest { after: None, limit: 10 };
    assert_eq!(tenant.assignments(page).await.expect("read").len(), 0);
    // Its name is free again, and deleted ones count for a while.
    for name in ["one", "two", "three"] {
        fixture.assign(tenant_id, package, name).await.expect("assign");
    }
    refused(fixture.assign(tenant_id, package, "four").await);
}
