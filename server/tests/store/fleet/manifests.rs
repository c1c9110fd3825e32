//! Manifests that hosts report, and what a tenant may store of them.

use muster_server::domain::access::principal::Role;
use muster_server::domain::access::tenants::plan::Plan;
use muster_server::domain::fleet::agent::AgentEventKind;
use muster_server::domain::fleet::records::ManifestRecord;
use muster_server::domain::fleet::reported_manifest::ManifestInForce;
use muster_server::domain::ids::ApiKeyId;
use muster_server::domain::page::PageRequest;
use muster_server::store::entities::access::{api_key, tenant};
use muster_server::store::entities::column::StringList;
use muster_server::store::entities::fleet::agent_manifest;
use muster_server::store::queries::{Bootstrap, Deletion};
use muster_server::store::writer::{ManifestSize, OpenedSession, RecordManifest};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_tenant_stores_manifests_up_to_its_limit_and_deleted_agents_make_room,
    the_manifest_in_force_is_known_since_its_first_report_and_a_rejected_one_is_an_event,
);

const LIMIT: ManifestSize = ManifestSize { bytes: 1_000, scripts: 10 };

impl Fixture {
    /// The row of the fixture's tenant, which counts.
    pub async fn make_tenant(&self) {
        let tenant = tenant::Model {
            id: self.tenant_id,
            name: "tenant".into(),
            plan: Plan::DEFAULT,
            created_at: NOW,
            delete_at: None,
            is_deleted_by_operator: false,
            requires_second_factor: false,
            passes_schedules_on: false,
            storage_quota_bytes: None,
            manifest_bytes: 0,
            manifest_scripts: 0,
        };
        let api_key = api_key::Model {
            id: ApiKeyId::new(),
            tenant_id: self.tenant_id,
            name: "key".into(),
            prefix: "mst_live_".into(),
            secret_hash: vec![1],
            role: Role::Owner,
            scopes: StringList::default(),
            created_at: NOW,
            created_by: None,
            expires_at: None,
            revoked_at: None,
            limits: None,
            previous_secret_hash: None,
            previous_prefix: None,
            previous_valid_until: None,
            rotated_by: None,
            last_used_at: None,
            previous_used_at: None,
        };
        let rows = Bootstrap { tenant, api_key, audit: audit(self.tenant_id) };
        self.store.system().bootstrap(rows).await.expect("made");
    }

    fn report(&self, session: &OpenedSession, bytes: i64, scripts: i64) -> RecordManifest {
        let row = |manifest: &str, size_bytes, script_count| agent_manifest::Model {
            agent_id: session.agent_id,
            manifest: manifest.into(),
            digest: None,
            error: None,
            forbidden_commands: None,
            reported_at: NOW,
            size_bytes,
            script_count,
            in_force_since: NOW,
        };
        RecordManifest {
            tenant_id: self.tenant_id,
            agent_id: session.agent_id,
            epoch: session.epoch,
            row: row("reported", bytes, scripts),
            refused: row("refused", 0, 0),
            new_policy: None,
            limit: LIMIT,
        }
    }

    async fn reported(&self, session: &OpenedSession, bytes: i64, scripts: i64) -> String {
        let writer = self.store.writer();
        let stored = writer.commit(self.report(session, bytes, scripts)).await.expect("stored");
        let tenant = self.store.tenant(self.tenant_id);
        let row = tenant.agent_manifest(session.agent_id).await.expect("read").expect("a row");
        assert_eq!(stored.is_refused, row.manifest == "refused");
        row.manifest
    }
}

async fn a_tenant_stores_manifests_up_to_its_limit_and_deleted_agents_make_room(fixture: Fixture) {
    fixture.make_tenant().await;
    let (one, two) = (fixture.agent("one").await, fixture.agent("two").await);
    assert_eq!(fixture.reported(&one, 600, 2).await, "reported");
    assert_eq!(fixture.reported(&two, 401, 1).await, "refused", "too many bytes");
    assert_eq!(fixture.reported(&two, 100, 9).await, "refused", "too many scripts");
    assert_eq!(fixture.reported(&two, 400, 8).await, "reported", "a refused one counts nothing");
    // What replaces a report counts instead of it.
    assert_eq!(fixture.reported(&one, 601, 2).await, "refused");
    assert_eq!(fixture.reported(&one, 600, 2).await, "reported");
    assert_eq!(fixture.reported(&one, 300, 1).await, "reported");
    let three = fixture.agent("three").await;
    assert_eq!(fixture.reported(&three, 301, 0).await, "refused");
    // In one transaction, too.
    let (first, second) = (fixture.report(&one, 600, 2), fixture.report(&three, 1, 0));
    let writer = fixture.store.writer();
    let (first, second) = tokio::join!(writer.commit(first), writer.commit(second));
    assert!(!first.expect("stored").is_refused);
    assert!(second.expect("stored").is_refused);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let gone = tenant.delete_agent(one.agent_id, Deletion::Operator, NOW, audit(fixture.tenant_id));
    assert!(gone.await.expect("deleted").is_some());
    assert!(tenant.agent_manifest(one.agent_id).await.expect("read").is_none());
    assert_eq!(fixture.reported(&three, 600, 2).await, "reported");
}

async fn the_manifest_in_force_is_known_since_its_first_report_and_a_rejected_one_is_an_event(
    fixture: Fixture,
) {
    use ManifestInForce::{Newest, None as Nothing, Previous};
    fixture.make_tenant().await;
    let session = fixture.agent("one").await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let one = 1;
    for (minute, manifest, scripts, error, changed, since) in [
        (0, one, 2, None, None, 0),
        // Each session begins with a report.
        (1, one, 2, None, None, 0),
        (2, one, 2, Some("line 3"), Some(Previous), 0),
        (3, one, 2, Some("line 3"), None, 0),
        (4, one, 2, Some("line 7"), Some(Previous), 0),
        // As after a restart of the agent.
        (5, 2, 0, Some("line 7"), Some(Nothing), 5),
        (6, 3, 1, None, Some(Newest), 6),
        (7, 4, 1, None, None, 7),
        (8, 2, 0, Some("it was deleted"), Some(Nothing), 8),
    ] {
        let mut report = fixture.report(&session, 100, scripts);
        let now = NOW.plus_ms(minute * 60_000);
        (report.row.reported_at, report.row.in_force_since) = (now, now);
        report.row.digest = Some(vec![manifest; 32]);
        report.row.error = error.map(str::to_owned);
        let stored = fixture.store.writer().commit(report).await.expect("stored");
        assert_eq!(stored.changed, changed, "minute {minute}");
        let row = tenant.agent_manifest(session.agent_id).await.expect("read").expect("a row");
        let record = ManifestRecord::from(row);
        assert_eq!(record.in_force_since, NOW.plus_ms(since * 60_000), "minute {minute}");
        assert_eq!(record.reported_at, now);
    }
    let page = PageRequest { after: None, limit: 50 };
    let events = tenant.agent_events(session.agent_id, page).await.expect("read");
    let rejected = |what: &str| (AgentEventKind::ManifestRejected, Some(what.to_owned()));
    let of_manifests = events.into_iter().rev().map(|event| (event.kind, event.detail));
    let is_of_manifests = |(kind, _): &(AgentEventKind, Option<String>)| {
        matches!(kind, AgentEventKind::ManifestRejected | AgentEventKind::ManifestAccepted)
    };
    assert_eq!(
        of_manifests.filter(is_of_manifests).collect::<Vec<_>>(),
        [
            rejected("the previous manifest stays in force: line 3"),
            rejected("the previous manifest stays in force: line 7"),
            rejected("no manifest is in force: line 7"),
            (AgentEventKind::ManifestAccepted, None),
            rejected("no manifest is in force: it was deleted"),
        ]
    );
}
