//! Services: what people want of them on single agents, and what hosts report about them.

use std::collections::{BTreeMap, HashMap, HashSet};

use muster_protocol::limits::SETTLED_RETENTION_MS;
use muster_protocol::package::{
    AssignmentReport, AssignmentState, PackagePin, SERVICE_TIMEOUT_MS, ServiceControl,
    ServiceReport, ServiceState, TaskRun,
};
use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::commands::trigger::Trigger;
use muster_server::domain::ids::{AgentId, AgentKeyId, AssignmentId, PrincipalId, TenantId};
use muster_server::domain::library::assignment_records::{AssignedKind, ServiceAction};
use muster_server::domain::page::PageRequest;
use muster_server::domain::time::Timestamp;
use muster_server::store::queries::{Deletion, ServiceRequest};
use muster_server::store::writer::{
    MAX_SERVICE_STARTS_PER_HOUR, RecordAssignmentStates, RecordTaskRuns,
};
use uuid::Uuid;

use super::assignments::{id_of, run};
use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_request_about_a_service_is_of_its_tenant_and_agents,
    a_run_counts_only_as_what_is_assigned,
    a_host_reports_no_more_starts_than_its_own_delays_allow,
    a_run_that_is_known_stays_known_however_long_it_lasts,
    reports_about_services_are_counted_by_state_and_are_none_of_tasks,
);

impl Fixture {
    async fn service(&self, tenant_id: TenantId) -> AssignmentId {
        let package = self.package(tenant_id).await;
        let kind = AssignedKind::Service;
        self.assign_kind(tenant_id, package, "service", kind).await.expect("assign")
    }

    async fn task(&self) -> AssignmentId {
        let package = self.package_named(self.tenant_id, "other").await;
        let kind = AssignedKind::Task;
        self.assign_kind(self.tenant_id, package, "task", kind).await.expect("assign")
    }

    async fn control(
        &self,
        tenant_id: TenantId,
        assignment_id: AssignmentId,
        action: ServiceAction,
        agents: &[AgentId],
    ) -> bool {
        let requested_by = PrincipalId(Uuid::nil());
        let request = ServiceRequest { assignment_id, action, requested_by, now: NOW };
        let tenant = self.store.tenant(tenant_id);
        tenant.control_service(request, agents.to_vec(), audit(tenant_id)).await.expect("stored")
    }

    async fn controls(
        &self,
        agents: &[AgentId],
    ) -> HashMap<(AssignmentId, AgentId), ServiceControl> {
        self.store.tenant(self.tenant_id).service_controls(agents).await.expect("read")
    }
}

fn service_run(of: AssignmentId, started_at: Timestamp) -> TaskRun {
    TaskRun { is_service: true, timeout_ms: SERVICE_TIMEOUT_MS, ..run(of, started_at) }
}

fn with_hash(mut run: TaskRun, change: fn(&mut PackagePin)) -> TaskRun {
    change(&mut run.package);
    run
}

async fn a_request_about_a_service_is_of_its_tenant_and_agents(fixture: Fixture) {
    use ServiceAction::{Restart, Start, Stop};
    let (one, two) = (fixture.agent("one").await.agent_id, fixture.agent("two").await.agent_id);
    let other = TenantId::new();
    fixture.make_key(other, AgentKeyId::new(), 1).await;
    let own = fixture.tenant_id;
    let (service, task) = (fixture.service(own).await, fixture.task().await);
    assert!(!fixture.control(other, service, Stop, &[one]).await, "another tenant");
    assert!(!fixture.control(own, task, Stop, &[one]).await, "a task");
    assert_eq!(fixture.controls(&[one, two]).await, HashMap::new());
    let control = |is_stopped, restart_requests| ServiceControl { is_stopped, restart_requests };
    assert!(fixture.control(own, service, Stop, &[one]).await);
    let expected = HashMap::from([((service, one), control(true, 0))]);
    assert_eq!(fixture.controls(&[one, two]).await, expected);
    for action in [Restart, Restart, Stop, Start] {
        assert!(fixture.control(own, service, action, &[one, two]).await);
    }
    let expected = ServiceControl { is_stopped: false, restart_requests: 2 };
    let controls = fixture.controls(&[one, two]).await;
    assert_eq!(controls, HashMap::from([((service, one), expected), ((service, two), expected)]));
    let of_other = fixture.store.tenant(other).service_controls(&[one]).await.expect("read");
    assert_eq!(of_other, HashMap::new());
    // What is deleted leaves nothing.
    let tenant = fixture.store.tenant(own);
    let deleted = tenant.delete_agent(one, Deletion::Operator, NOW, audit(own)).await;
    assert!(deleted.expect("delete").is_some());
    assert_eq!(fixture.controls(&[one, two]).await.len(), 1);
    assert!(tenant.delete_assignment(service, audit(own)).await.expect("delete"));
    assert_eq!(fixture.controls(&[one, two]).await.len(), 0);
    assert!(!fixture.control(own, service, Start, &[two]).await, "it is deleted");
}

async fn a_run_counts_only_as_what_is_assigned(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (service, task) = (fixture.service(fixture.tenant_id).await, fixture.task().await);
    let forged = vec![
        service_run(task, NOW),
        run(service, NOW),
        // Before the assignment was made, even with a clock that is a day off.
        service_run(service, NOW.minus_ms(25 * 3_600_000)),
        run(task, NOW.minus_ms(25 * 3_600_000)),
        service_run(service, NOW.plus_ms(25 * 3_600_000)),
        // It is due every 5 ms.
        run(task, NOW.plus_ms(1)),
        with_hash(service_run(service, NOW), |pin| pin.sha256 = "c".repeat(64)),
        with_hash(service_run(service, NOW), |pin| pin.document_sha256 = "c".repeat(64)),
    ];
    assert_eq!(fixture.announce(&session, forged.clone()).await.expect("none"), HashSet::new());
    for run in &forged {
        assert_eq!(fixture.stored_state(id_of(&session, run)).await, None, "{run:?}");
    }
    let real = service_run(service, NOW.minus_ms(1));
    let id = id_of(&session, &real);
    let stored = fixture.announce(&session, vec![real.clone()]).await.expect("stored");
    assert_eq!(stored, HashSet::from([id]));
    let state = fixture.stored_state(id).await;
    assert_eq!(state, Some((CommandState::Delivered, NOW.minus_ms(1), Trigger::Service)));
    // The id follows from the agent: another one can't name this run.
    let other = fixture.agent("other").await;
    assert_ne!(id_of(&other, &real), id);
}

async fn a_host_reports_no_more_starts_than_its_own_delays_allow(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let service = fixture.service(fixture.tenant_id).await;
    let start = |second: u64| service_run(service, NOW.minus_ms(7_200_000 - second * 1_000));
    // In any order, and more than a frame may have.
    let flood: Vec<_> = (0..300).rev().map(start).collect();
    let mut stored = HashSet::new();
    for runs in flood.chunks(100).rev() {
        stored.extend(fixture.announce(&session, runs.to_vec()).await.expect("stored"));
    }
    assert_eq!(stored.len(), MAX_SERVICE_STARTS_PER_HOUR);
    // Known ones are confirmed again, and nothing is added before the last one.
    let again = fixture.announce(&session, vec![start(0), start(1), start(200)]).await;
    assert_eq!(again.expect("stored").len(), 2);
    let last = start(7_000);
    let earlier = vec![last.clone()];
    assert_eq!(fixture.announce(&session, earlier).await.expect("stored").len(), 1);
    let before = fixture.announce(&session, vec![start(6_999)]).await.expect("stored");
    assert_eq!(before, HashSet::new());
    // Other agents have budgets of their own.
    let other = fixture.agent("other").await;
    assert_eq!(fixture.announce(&other, vec![start(0)]).await.expect("stored").len(), 1);
}

async fn a_run_that_is_known_stays_known_however_long_it_lasts(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let service = fixture.service(fixture.tenant_id).await;
    let run = service_run(service, NOW);
    fixture.announce(&session, vec![run.clone()]).await.expect("stored");
    let later = RecordTaskRuns {
        tenant_id: fixture.tenant_id,
        agent_id: session.agent_id,
        epoch: session.epoch,
        runs: vec![run.clone(), service_run(service, NOW.plus_ms(1))],
        lost_after_ms: 10_000,
        action: "command.run",
        now: NOW.plus_ms(SETTLED_RETENTION_MS + 1_000),
    };
    let known = fixture.store.writer().commit(later).await.expect("stored");
    let known: HashSet<_> = known.into_keys().collect();
    assert_eq!(known, HashSet::from([id_of(&session, &run)]), "a new one so old is none");
}

async fn reports_about_services_are_counted_by_state_and_are_none_of_tasks(fixture: Fixture) {
    let (service, task) = (fixture.service(fixture.tenant_id).await, fixture.task().await);
    let report = |id: AssignmentId, state: ServiceState| AssignmentReport {
        assignment_id: id.0,
        version: "1".into(),
        state: AssignmentState::Installed,
        error_code: None,
        error: None,
        skipped_count: 0,
        service: Some(ServiceReport {
            state,
            started_at_ms: Some(5),
            restart_count: 1,
            restart_at_ms: None,
            last_outcome: None,
            last_error_code: None,
            health: None,
            limits: None,
        }),
    };
    let mut agents = Vec::new();
    for (name, state) in [
        ("one", ServiceState::Running),
        ("two", ServiceState::Running),
        ("three", ServiceState::Backoff),
    ] {
        let session = fixture.agent(name).await;
        agents.push(session.agent_id);
        let operation = RecordAssignmentStates {
            tenant_id: fixture.tenant_id,
            agent_id: session.agent_id,
            epoch: session.epoch,
            reports: vec![report(service, state), report(task, state)],
            now: NOW,
        };
        fixture.store.writer().commit(operation).await.expect("stored");
    }
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let counts = tenant.service_counts(&[service, task]).await.expect("read");
    let expected = BTreeMap::from([("backoff".to_owned(), 1), ("running".to_owned(), 2)]);
    assert_eq!(counts, HashMap::from([(service, expected)]));
    let states = tenant.assignment_states(service, &agents).await.expect("read");
    assert_eq!(states[&agents[0]].service, report(service, ServiceState::Running).service);
    let states = tenant.assignment_states(task, &agents).await.expect("read");
    assert_eq!(states[&agents[0]].service, None);
    let page = tenant.services(PageRequest { after: None, limit: 10 }).await.expect("read");
    assert_eq!(page.into_iter().map(|row| row.id).collect::<Vec<_>>(), [service]);
    let other = fixture.store.tenant(TenantId::new());
    assert_eq!(other.service_counts(&[service]).await.expect("read"), HashMap::new());
}
