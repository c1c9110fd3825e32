//! Messages of jobs that have ended, and the keys they are signed with.

mod sending;

use muster_server::domain::commands::job_state::JobState;
use muster_server::domain::ids::{JobId, TenantId, WebhookKeyId};
use muster_server::domain::integrations::records::WebhookAttempt;
use muster_server::domain::integrations::webhook::WebhookDeliveryState;
use muster_server::domain::page::PageRequest;
use muster_server::domain::time::Timestamp;
use muster_server::store::entities::commands::job;
use muster_server::store::entities::integrations::delivery;
use muster_server::store::entities::integrations::delivery::KEPT_ATTEMPTS;
use muster_server::store::entities::integrations::webhook_key;
use muster_server::store::queries::{Retention, WebhookDeliveriesToSkip, WebhookDeliveryFilter};
use muster_server::store::writer::{FinishJob, SubmitJob};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_finished_job_with_a_webhook_creates_one_delivery,
    busy_deliveries_are_skipped_and_the_earliest_due_comes_first,
    attempts_are_limited_and_old_finished_deliveries_are_deleted,
    a_tenant_has_one_current_key_even_if_two_callers_create_it,
);

const FIRST: PageRequest = PageRequest { after: None, limit: 50 };

impl Fixture {
    /// A job that has ended, with a webhook to this address.
    async fn told(&self, url: Option<&str>, finished_at: Timestamp) -> JobId {
        let row = job::Model { webhook_url: url.map(str::to_owned), ..self.job_row(JobId::new()) };
        let job_id = row.id;
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
        for is_first in [true, false] {
            let tenant_id = self.tenant_id;
            let end = FinishJob { tenant_id, job_id, state: JobState::Succeeded, finished_at };
            assert_eq!(self.store.writer().commit(end).await.expect("finish"), is_first);
        }
        job_id
    }

    async fn deliveries(&self, tenant_id: TenantId) -> Vec<delivery::Model> {
        let tenant = self.store.tenant(tenant_id);
        tenant.webhook_deliveries(WebhookDeliveryFilter::default(), FIRST).await.expect("read")
    }

    async fn keys(&self, now: Timestamp) -> Vec<WebhookKeyId> {
        let keys = self.store.tenant(self.tenant_id).webhook_keys(now).await.expect("read");
        keys.into_iter().map(|key| key.id).collect()
    }

    fn key(&self) -> webhook_key::Model {
        webhook_key::Model {
            id: WebhookKeyId::new(),
            tenant_id: self.tenant_id,
            sealed: b"sealed".to_vec(),
            created_at: NOW,
            valid_until: None,
        }
    }
}

fn attempt(status: u16) -> WebhookAttempt {
    WebhookAttempt { at: NOW, took_ms: 1, status: Some(status), error: None, response: None }
}

async fn a_finished_job_with_a_webhook_creates_one_delivery(fixture: Fixture) {
    fixture.told(None, NOW).await;
    let told = fixture.told(Some("https://Hooks.Example:8443/a?b"), NOW).await;
    let deliveries = fixture.deliveries(fixture.tenant_id).await;
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    let delivery = &deliveries[0];
    assert_eq!((delivery.job_id, delivery.state), (Some(told), WebhookDeliveryState::Pending));
    assert_eq!((delivery.host.as_str(), delivery.due_at), ("hooks.example", NOW));
    assert_eq!(fixture.deliveries(TenantId::new()).await, []);
    let others = fixture.store.tenant(TenantId::new());
    assert!(others.webhook_delivery(delivery.id).await.expect("read").is_none());
    let resent = others.resend_webhook(delivery.id, NOW, NOW, audit(fixture.tenant_id)).await;
    assert!(resent.expect("refused").is_none());
}

async fn busy_deliveries_are_skipped_and_the_earliest_due_comes_first(fixture: Fixture) {
    for (url, after_ms) in
        [("https://b.example", 2), ("https://a.example", 1), ("https://a.example", 3)]
    {
        fixture.told(Some(url), NOW.plus_ms(after_ms)).await;
    }
    let system = fixture.store.system();
    let look = async |busy: &WebhookDeliveriesToSkip| {
        let waiting = system.waiting_webhooks(busy, 10).await.expect("read");
        let shown = waiting.iter().map(|one| (one.host.clone(), one.due_at.ms_since(NOW)));
        (shown.collect::<Vec<_>>(), waiting)
    };
    let name = |host: &str, after_ms| (format!("{host}.example"), after_ms);
    let (shown, waiting) = look(&WebhookDeliveriesToSkip::default()).await;
    assert_eq!(shown, [name("a", 1), name("b", 2), name("a", 3)]);
    let busy = WebhookDeliveriesToSkip { ids: vec![waiting[1].id], hosts: vec![] };
    assert_eq!(look(&busy).await.0, [name("a", 1), name("a", 3)]);
    let busy = WebhookDeliveriesToSkip { ids: vec![], hosts: vec!["a.example".into()] };
    assert_eq!(look(&busy).await.0, [name("b", 2)]);
    assert_eq!(system.pending_webhooks().await.expect("read"), 3);
}

async fn attempts_are_limited_and_old_finished_deliveries_are_deleted(fixture: Fixture) {
    let done = fixture.told(Some("https://a.example"), NOW).await;
    fixture.told(Some("https://b.example"), NOW).await;
    let system = fixture.store.system();
    let deliveries = fixture.deliveries(fixture.tenant_id).await;
    let id = deliveries.iter().find(|one| one.job_id == Some(done)).expect("there").id;
    for number in 0..=KEPT_ATTEMPTS {
        let status = 500 + u16::try_from(number).expect("few");
        let decide = move |row: &mut delivery::Model| {
            if row.attempt_count as usize > KEPT_ATTEMPTS {
                row.state = WebhookDeliveryState::Failed;
                row.finished_at = Some(NOW);
            }
        };
        system.record_webhook_attempt(id, attempt(status), vec![], decide).await.expect("record");
    }
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = tenant.webhook_delivery(id).await.expect("read").expect("there");
    assert_eq!(row.attempts.0.len(), KEPT_ATTEMPTS);
    assert_eq!((row.attempts.0[0].status, row.attempt_count), (Some(501), 21));
    // Ids carry the time of this test, not the fixture's.
    let later = NOW.plus_ms(100 * 365 * 24 * 3_600_000);
    let retention = Retention {
        telemetry_before: NOW,
        idempotency_before: NOW,
        history_before: NOW,
        deliveries_before: later,
    };
    while system.drop_old(retention).await.expect("sweep") {}
    let left = fixture.deliveries(fixture.tenant_id).await;
    assert_eq!(
        left.iter().map(|one| one.state).collect::<Vec<_>>(),
        [WebhookDeliveryState::Pending]
    );
}

async fn a_tenant_has_one_current_key_even_if_two_callers_create_it(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let (first, second) = (fixture.key(), fixture.key());
    let id = first.id;
    tenant.create_webhook_key(first).await.expect("made");
    tenant.create_webhook_key(second).await.expect("there is one");
    assert_eq!(fixture.keys(NOW).await, [id]);
    let (next, until) = (fixture.key(), NOW.plus_ms(10));
    let next_id = next.id;
    tenant.rotate_webhook_key(next, until, audit(fixture.tenant_id)).await.expect("rotated");
    assert_eq!(fixture.keys(NOW).await, [next_id, id]);
    assert_eq!(fixture.keys(until).await, [next_id], "its grace is over");
}
