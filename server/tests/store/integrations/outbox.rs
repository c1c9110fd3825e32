//! Events become messages of integrations in the transaction that makes them.

use muster_server::domain::commands::job_state::JobState;
use muster_server::domain::ids::{IntegrationId, JobId, PrincipalId, WebhookDeliveryId};
use muster_server::domain::integrations::event_type::EventType;
use muster_server::domain::integrations::integration::IntegrationKind;
use muster_server::domain::integrations::records::WebhookAttempt;
use muster_server::domain::integrations::webhook::WebhookDeliveryState::{
    Delivered, Failed, Pending, Queued,
};
use muster_server::domain::page::PageRequest;
use muster_server::domain::time::Timestamp;
use muster_server::store::entities::column::{StoredEventTypes, StoredSettings};
use muster_server::store::entities::integrations::{delivery, integration};
use muster_server::store::writer::{FinishJob, SubmitJob};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::fleet::sessions::{close, opened, returning};
use crate::on_both_databases;

on_both_databases!(
    an_agent_that_is_back_within_its_grace_period_leaves_no_message,
    a_message_that_waits_lets_others_pass_and_one_that_was_tried_does_not,
    one_of_two_servers_claims_a_message,
    a_full_queue_keeps_what_is_above_it_as_dead_letters,
);

const PAGE: PageRequest = PageRequest { after: None, limit: 5_000 };
const GRACE_MS: u64 = 60_000;

impl Fixture {
    pub async fn integration(&self, types: &[EventType]) -> IntegrationId {
        let id = IntegrationId::new();
        let row = integration::Model {
            id,
            tenant_id: self.tenant_id,
            kind: IntegrationKind::Webhook,
            name: id.to_string(),
            host: "hooks.example".into(),
            shown: StoredSettings::default(),
            sealed: b"sealed".to_vec(),
            event_types: StoredEventTypes(types.to_vec()),
            target: None,
            template: None,
            is_enabled: true,
            offline_after_ms: GRACE_MS.cast_signed(),
            failing_since: None,
            retry_at: None,
            last_error: None,
            queue_changes: 0,
            created_by: PrincipalId(Uuid::nil()),
            created_at: NOW,
            changed_at: NOW,
        };
        let entry = audit(self.tenant_id);
        let tenant = self.store.tenant(self.tenant_id);
        tenant.create_integration(row, 10, entry).await.expect("create");
        id
    }

    /// The messages of an integration, oldest first.
    async fn messages(&self, id: IntegrationId) -> Vec<delivery::Model> {
        let tenant = self.store.tenant(self.tenant_id);
        let mut rows = tenant.integration_messages(id, None, PAGE).await.expect("read");
        rows.reverse();
        rows
    }

    async fn failed_job(&self, finished_at: Timestamp) {
        let row = self.job_row(JobId::new());
        let (tenant_id, job_id) = (self.tenant_id, row.id);
        let audit = audit(self.tenant_id);
        let submission = SubmitJob {
            row,
            rollout: None,
            executions: vec![],
            idempotency: None,
            audit,
            approval: None,
            fire: None,
        };
        self.store.writer().commit(submission).await.expect("submit");
        let end = FinishJob { tenant_id, job_id, state: JobState::Failed, finished_at };
        assert!(self.store.writer().commit(end).await.expect("finish"));
    }

    async fn claimed(&self, id: WebhookDeliveryId, now: Timestamp) -> bool {
        let lease = move |row: &mut delivery::Model| row.due_at = now.plus_ms(10_000);
        let claimed = self.store.system().claim_webhook(id, now, lease).await.expect("claim");
        claimed.is_some()
    }

    async fn record(&self, id: WebhookDeliveryId, status: u16, at: Timestamp) {
        let attempt =
            WebhookAttempt { at, took_ms: 1, status: Some(status), error: None, response: None };
        let decide = move |row: &mut delivery::Model| match status {
            200 => {
                row.state = Delivered;
                row.finished_at = Some(at);
            }
            _ => row.due_at = at.plus_ms(60_000),
        };
        let system = self.store.system();
        system.record_webhook_attempt(id, attempt, vec![], decide).await.expect("record");
    }
}

async fn an_agent_that_is_back_within_its_grace_period_leaves_no_message(fixture: Fixture) {
    let id = fixture.integration(&[EventType::AgentOffline]).await;
    let first = fixture.agent("host").await;
    close(&fixture, &first).await;
    let held = fixture.messages(id).await;
    assert_eq!((held.len(), held[0].event.as_str()), (1, "agent.offline"));
    assert_eq!((held[0].state, held[0].due_at), (Pending, NOW.plus_ms(GRACE_MS)));
    let mut again = fixture.registration("host");
    returning(&mut again, &first);
    let second = opened(fixture.open(again).await);
    assert_eq!(fixture.messages(id).await, [], "it was not away for long enough");
    close(&fixture, &second).await;
    assert_eq!(fixture.messages(id).await.len(), 1);
}

async fn a_message_that_waits_lets_others_pass_and_one_that_was_tried_does_not(fixture: Fixture) {
    let id = fixture.integration(&[EventType::AgentOffline, EventType::JobFailed]).await;
    let agent = fixture.agent("host").await;
    close(&fixture, &agent).await;
    fixture.failed_job(NOW).await;
    fixture.failed_job(NOW.plus_ms(1)).await;
    let messages = fixture.messages(id).await;
    let states: Vec<_> = messages.iter().map(|one| (one.event.as_str(), one.state)).collect();
    let (offline, job) = ("agent.offline", "job.failed");
    assert_eq!(states, [(offline, Queued), (job, Pending), (job, Queued)]);
    let [_, first, second] = &messages[..] else { panic!("three messages") };
    assert!(fixture.claimed(first.id, NOW).await);
    fixture.record(first.id, 500, NOW).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let failing = tenant.integration(id).await.expect("read").expect("there");
    assert!(failing.failing_since.is_some() && failing.retry_at == Some(NOW.plus_ms(60_000)));
    let states: Vec<_> = fixture.messages(id).await.iter().map(|one| one.state).collect();
    assert_eq!(states, [Queued, Pending, Queued], "the first keeps its place");
    let later = NOW.plus_ms(60_000);
    assert!(fixture.claimed(first.id, later).await);
    fixture.record(first.id, 200, later).await;
    let messages = fixture.messages(id).await;
    let states: Vec<_> = messages.iter().map(|one| one.state).collect();
    assert_eq!(states, [Queued, Delivered, Pending]);
    assert_eq!(messages[2].id, second.id);
    let recovered = tenant.integration(id).await.expect("read").expect("there");
    assert_eq!((recovered.failing_since, recovered.retry_at), (None, None));
}

async fn one_of_two_servers_claims_a_message(fixture: Fixture) {
    let id = fixture.integration(&[EventType::JobFailed]).await;
    fixture.failed_job(NOW).await;
    let message = fixture.messages(id).await.remove(0);
    let both = tokio::join!(fixture.claimed(message.id, NOW), fixture.claimed(message.id, NOW));
    assert!(both.0 != both.1, "{both:?}");
    assert!(fixture.claimed(message.id, NOW.plus_ms(10_000)).await, "its server stopped");
}

async fn a_full_queue_keeps_what_is_above_it_as_dead_letters(fixture: Fixture) {
    let id = fixture.integration(&[EventType::JobFailed]).await;
    for number in 0..1_003 {
        fixture.failed_job(NOW.plus_ms(number)).await;
    }
    let messages = fixture.messages(id).await;
    let count = |state| messages.iter().filter(|one| one.state == state).count();
    assert_eq!((count(Pending), count(Queued), count(Failed)), (1, 1_000, 2));
    assert_eq!(messages[1_002].state, Failed, "the newest one");
}
