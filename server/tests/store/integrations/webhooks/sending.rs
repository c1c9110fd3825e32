//! What leaves, and when again, while the database takes no writes and can still be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_server::adapters::package_files::PackageFiles;
use muster_server::adapters::program_files::ProgramFiles;
use muster_server::adapters::release_files::ReleaseFiles;
use muster_server::adapters::smtp::client::SmtpClient;
use muster_server::adapters::uploaded_files::UploadedFiles;
use muster_server::adapters::webhook_client::{WebhookClient, WebhookLimits};
use muster_server::domain::ids::WebhookDeliveryId;
use muster_server::domain::integrations::webhook::WebhookDeliveryState;
use muster_server::domain::operations::master_key::MasterKey;
use muster_server::domain::outbound::OutboundReach;
use muster_server::domain::secret_box::SecretBox;
use muster_server::domain::time::Clock;
use muster_server::hub::Hub;
use muster_server::services::integrations::webhooks::Webhooks;
use muster_server::services::{Adapters, Services, Settings};
use muster_server::store::entities::integrations::delivery;
use muster_tests::WebhookSink;
use sea_orm::ConnectionTrait as _;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_webhook_is_not_sent_if_its_attempt_cannot_be_recorded,
    an_attempt_without_a_recorded_result_counts_and_is_delayed,
    a_delivery_resent_during_an_attempt_starts_a_new_round,
);

const ANY_UPDATE: &str = "true";
const RECORDS: &str = "NEW.attempt_count <> OLD.attempt_count";

impl Fixture {
    /// The sender, an instant after its messages were created.
    fn sender(&self) -> Webhooks {
        // One of the tests in this process comes first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let limits =
            WebhookLimits { reach: OutboundReach::Private, timeout: Duration::from_secs(30) };
        let outside = Adapters {
            packages: PackageFiles::new(self.test_dir.folder("packages")),
            uploaded_files: UploadedFiles::new(self.test_dir.folder("files")),
            files: ProgramFiles::new(self.test_dir.path().to_owned()),
            releases: ReleaseFiles::new(self.test_dir.folder("releases")),
            webhooks: WebhookClient::new(limits, None).expect("a client"),
            mail: SmtpClient::None,
            public_url: None,
            oidc: Vec::new(),
            passkeys: None,
            authority: None,
        };
        let settings = Settings {
            heartbeat_interval_ms: 30_000,
            lost_after_ms: 1_000,
            history_retention_ms: 1_000,
            audit_retention_ms: 1_000,
            webhook_first_retry: Duration::from_secs(3_600),
            max_output_bytes: 1_000,
            output_quota_bytes: 1_000,
            storage_measure_every_ms: 300_000,
            is_registration_open: false,
            certificate_policy: Default::default(),
            mail_first_retry: Duration::from_secs(5),
        };
        let key = MasterKey::random().expect("a key");
        let secret_box = SecretBox::new(&key).expect("a box");
        // Each look at the clock is hours later, so that a delayed delivery is due again.
        let looks = AtomicU64::new(0);
        let clock = Clock::from_fn(move || {
            NOW.plus_ms(1 + looks.fetch_add(1, Ordering::Relaxed) * 10_800_000)
        });
        let hub = Arc::new(Hub::default());
        Services::new(&self.store, &hub, &clock, &secret_box, outside, settings).webhooks
    }

    async fn told_to(&self, receiver: &WebhookSink) -> WebhookDeliveryId {
        self.told(Some(&receiver.url()), NOW).await;
        self.deliveries(self.tenant_id).await[0].id
    }

    async fn delivery(&self, id: WebhookDeliveryId) -> delivery::Model {
        let tenant = self.store.tenant(self.tenant_id);
        tenant.webhook_delivery(id).await.expect("read").expect("there")
    }

    /// From now on the database refuses updates of deliveries, where this holds of them.
    async fn refuse_updates(&self, condition: &str) {
        let rule = match self.postgres_url() {
            None => format!(
                "CREATE TRIGGER no_space BEFORE UPDATE ON deliveries WHEN {condition}
                BEGIN SELECT RAISE(ABORT, 'no space is left'); END"
            ),
            Some(_) => format!(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no space is left'; END $$;
                CREATE TRIGGER no_space BEFORE UPDATE ON deliveries
                FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()"
            ),
        };
        self.run(rule).await;
    }

    async fn take_updates(&self) {
        let rule = match self.postgres_url() {
            None => "DROP TRIGGER no_space",
            Some(_) => "DROP TRIGGER no_space ON deliveries",
        };
        self.run(rule.to_owned()).await;
    }

    async fn run(&self, statement: String) {
        let change = self.store.writer().change(move |transaction| {
            let statement = statement.clone();
            Box::pin(async move {
                transaction.execute_unprepared(&statement).await?;
                Ok(())
            })
        });
        change.await.expect("change the rules");
    }
}

async fn a_webhook_is_not_sent_if_its_attempt_cannot_be_recorded(fixture: Fixture) {
    let receiver = WebhookSink::start([]).await;
    let (id, sender) = (fixture.told_to(&receiver).await, fixture.sender());
    fixture.refuse_updates(ANY_UPDATE).await;
    for _ in 0..3 {
        sender.attempt(id).await.expect_err("the database takes no writes");
    }
    assert_eq!(receiver.received().len(), 0);
    let row = fixture.delivery(id).await;
    assert_eq!((row.tries, row.due_at), (0, NOW), "it stays due");
    fixture.take_updates().await;
    for _ in 0..2 {
        sender.attempt(id).await.expect("sent");
        assert_eq!(fixture.delivery(id).await.state, WebhookDeliveryState::Delivered);
        assert_eq!(receiver.received().len(), 1, "once, and then it waits no more");
    }
}

async fn an_attempt_without_a_recorded_result_counts_and_is_delayed(fixture: Fixture) {
    let receiver = WebhookSink::start([]).await;
    let (id, sender) = (fixture.told_to(&receiver).await, fixture.sender());
    fixture.refuse_updates(RECORDS).await;
    for tries in 1..=3 {
        let before = fixture.delivery(id).await;
        sender.attempt(id).await.expect_err("nothing is recorded");
        let row = fixture.delivery(id).await;
        assert_eq!(
            (row.tries, row.attempt_count, row.state),
            (tries, 0, WebhookDeliveryState::Pending)
        );
        assert_ne!(row.due_at, before.due_at, "each try sets when the next one is due");
        assert!(row.due_at > NOW, "{row:?}");
    }
    fixture.take_updates().await;
    sender.attempt(id).await.expect("sent");
    let row = fixture.delivery(id).await;
    assert_eq!((row.tries, row.attempt_count, row.state), (4, 1, WebhookDeliveryState::Delivered));
}

async fn a_delivery_resent_during_an_attempt_starts_a_new_round(fixture: Fixture) {
    let id = fixture.told_to(&WebhookSink::start([]).await).await;
    let system = fixture.store.system();
    let claimed = system.claim_webhook(id, NOW, |_| ()).await.expect("claim");
    let (claimed, _) = claimed.expect("it waits");
    assert_eq!(claimed.tries, 1);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let entry = audit(fixture.tenant_id);
    tenant.resend_webhook(id, NOW, NOW, entry).await.expect("resend").expect("there");
    let judge = |row: &mut delivery::Model| row.state = WebhookDeliveryState::Failed;
    system.record_webhook_attempt(id, super::attempt(500), vec![], judge).await.expect("record");
    assert_eq!(fixture.delivery(id).await.tries, 1);
    let over = system.claim_webhook(id, NOW, |_| ()).await.expect("try");
    assert!(over.is_none(), "it waits no more");
}
