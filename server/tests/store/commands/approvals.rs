//! Requests for approval: who decides, how they end, and how long they stay, on both databases.

use muster_server::domain::commands::approval::{ApprovalState, PinnedWork};
use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::ids::{AgentId, ApprovalId, CommandId, PrincipalId, TenantId};
use muster_server::domain::page::PageRequest;
use muster_server::domain::time::Timestamp;
use muster_server::store::entities::access::audit_entry;
use muster_server::store::entities::column::{StoredPins, StringList};
use muster_server::store::entities::commands::approval;
use muster_server::store::queries::{Decision, DecisionResult, ReleasedWork, Retention};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    one_decision_counts_and_only_in_its_tenant,
    an_overdue_request_ends_with_its_work_and_one_whose_work_ended_is_withdrawn,
    requests_of_ended_work_are_withdrawn_behind_any_number_of_pending_ones,
    ended_requests_are_deleted_with_old_history_and_pending_ones_stay,
);

const REQUESTER: PrincipalId = PrincipalId(Uuid::from_u128(7));
const OTHER: PrincipalId = PrincipalId(Uuid::from_u128(8));

fn entry(row: &approval::Model, _: ApprovalState, _: Timestamp) -> audit_entry::Model {
    audit(row.tenant_id)
}

impl Fixture {
    /// A held command that waits for an approval.
    async fn waiting(&self, expires_at: Timestamp) -> (ApprovalId, CommandId) {
        let session = self.agent(&Uuid::now_v7().to_string()).await;
        self.waiting_on(session.agent_id, expires_at).await
    }

    async fn waiting_on(
        &self,
        agent_id: AgentId,
        expires_at: Timestamp,
    ) -> (ApprovalId, CommandId) {
        let mut submission = self.submission(agent_id);
        submission.row.is_held = true;
        submission.row.expires_at = Timestamp::NEVER;
        let (id, command_id) = (ApprovalId::new(), submission.row.id);
        submission.approval = Some(approval::Model {
            id,
            tenant_id: self.tenant_id,
            state: ApprovalState::Pending,
            rules: StringList(vec!["rule".into()]),
            job_id: None,
            command_id: Some(command_id),
            command: "execute".into(),
            script: Some("hello".into()),
            data: "{}".into(),
            agent_count: 1,
            pinned: StoredPins(PinnedWork::default()),
            expires_in_ms: 60_000,
            requested_by: REQUESTER,
            requested_from: None,
            created_at: NOW,
            expires_at,
            decided_by: None,
            decided_at: None,
            reason: None,
        });
        self.store.writer().commit(submission).await.expect("submit");
        (id, command_id)
    }

    async fn decide(&self, of: TenantId, id: ApprovalId, by: PrincipalId) -> DecisionResult {
        let decision = Decision {
            is_approved: true,
            by,
            reason: None,
            capsules: Vec::new(),
            now: NOW.plus_ms(1),
        };
        let decided = self.store.tenant(of).decide_approval(id, decision, audit(of)).await;
        decided.expect("decide")
    }

    async fn state_of(&self, id: ApprovalId) -> Option<ApprovalState> {
        let row = self.store.tenant(self.tenant_id).approval(id).await.expect("read");
        row.map(|row| row.state)
    }
}

async fn one_decision_counts_and_only_in_its_tenant(fixture: Fixture) {
    let (id, command_id) = fixture.waiting(NOW.plus_ms(60_000)).await;
    let tenant = fixture.tenant_id;
    let foreign = TenantId::new();
    assert_eq!(fixture.decide(foreign, id, OTHER).await, DecisionResult::Unknown);
    let page = PageRequest { after: None, limit: 10 };
    let listed = fixture.store.tenant(foreign).approvals(None, page).await.expect("list");
    assert!(listed.is_empty());
    assert_eq!(fixture.decide(tenant, id, REQUESTER).await, DecisionResult::OwnRequest);
    let (one, two) =
        tokio::join!(fixture.decide(tenant, id, OTHER), fixture.decide(tenant, id, OTHER));
    let done = [&one, &two].into_iter().filter(|result| matches!(result, DecisionResult::Done(_)));
    assert_eq!(done.count(), 1, "{one:?} {two:?}");
    let ended = DecisionResult::NotPending(ApprovalState::Approved);
    assert!(one == ended || two == ended, "{one:?} {two:?}");
    let found = fixture.command(command_id).await;
    assert!(!found.command.is_held);
    assert_eq!(found.command.expires_at, NOW.plus_ms(60_001), "its time starts with the yes");
}

async fn an_overdue_request_ends_with_its_work_and_one_whose_work_ended_is_withdrawn(
    fixture: Fixture,
) {
    let (overdue, expired) = fixture.waiting(NOW.plus_ms(10)).await;
    let (cancelled, ended) = fixture.waiting(NOW.plus_ms(1_000)).await;
    let (pending, _) = fixture.waiting(NOW.plus_ms(500)).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let system = fixture.store.system();
    assert_eq!(system.next_approval_end().await.expect("read"), Some(NOW.plus_ms(10)));
    tenant.cancel_command(ended, NOW, audit(fixture.tenant_id)).await.expect("cancel");
    let swept = system.end_overdue_approvals(NOW.plus_ms(10), entry).await.expect("sweep");
    let states: Vec<_> = swept.iter().map(|swept| (swept.id, swept.state)).collect();
    let expected = [(overdue, ApprovalState::Expired), (cancelled, ApprovalState::Withdrawn)];
    assert_eq!(states, expected);
    assert_eq!(fixture.state(expired).await, CommandState::Expired);
    assert_eq!(fixture.state_of(pending).await, Some(ApprovalState::Pending));
    let late = fixture.decide(fixture.tenant_id, overdue, OTHER).await;
    assert_eq!(late, DecisionResult::NotPending(ApprovalState::Expired));
    assert_eq!(system.next_approval_end().await.expect("read"), Some(NOW.plus_ms(500)));
}

async fn requests_of_ended_work_are_withdrawn_behind_any_number_of_pending_ones(fixture: Fixture) {
    let agent_id = fixture.agent("host").await.agent_id;
    let mut pending = Vec::new();
    for number in 0..101 {
        pending.push(fixture.waiting_on(agent_id, NOW.plus_ms(100 + number)).await.0);
    }
    let (cancelled, ended) = fixture.waiting_on(agent_id, NOW.plus_ms(1_000)).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    tenant.cancel_command(ended, NOW, audit(fixture.tenant_id)).await.expect("cancel");
    let system = fixture.store.system();
    let swept = system.end_overdue_approvals(NOW, entry).await.expect("sweep");
    let states: Vec<_> = swept.iter().map(|swept| (swept.id, swept.state)).collect();
    assert_eq!(states, [(cancelled, ApprovalState::Withdrawn)]);
    // Each page of them is swept, not only the first.
    let swept = system.end_overdue_approvals(NOW.plus_ms(500), entry).await.expect("sweep");
    assert_eq!(swept.len(), pending.len());
}

async fn ended_requests_are_deleted_with_old_history_and_pending_ones_stay(fixture: Fixture) {
    let (decided, _) = fixture.waiting(NOW.plus_ms(60_000)).await;
    let (pending, _) = fixture.waiting(NOW.plus_ms(60_000)).await;
    let done = fixture.decide(fixture.tenant_id, decided, OTHER).await;
    assert!(matches!(done, DecisionResult::Done(ReleasedWork { .. })), "{done:?}");
    // Ids have the time of this machine, so everything before tomorrow is old.
    let tomorrow = Timestamp(chrono::Utc::now().timestamp_millis() + 24 * 3_600_000);
    let keep_all = Timestamp(0);
    let retention = |history_before| Retention {
        telemetry_before: keep_all,
        idempotency_before: keep_all,
        history_before,
        deliveries_before: keep_all,
    };
    let system = fixture.store.system();
    while system.drop_old(retention(keep_all)).await.expect("sweep") {}
    assert_eq!(fixture.state_of(decided).await, Some(ApprovalState::Approved));
    while system.drop_old(retention(tomorrow)).await.expect("sweep") {}
    assert_eq!(fixture.state_of(decided).await, None);
    assert_eq!(fixture.state_of(pending).await, Some(ApprovalState::Pending));
}
