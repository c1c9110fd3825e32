//! Manifests that hosts report, and what a tenant may store of them.

use muster_server::domain::access::principal::Role;
use muster_server::domain::ids::ApiKeyId;
use muster_server::store::entities::access::{api_key, tenant};
use muster_server::store::entities::column::StringList;
use muster_server::store::entities::fleet::agent_manifest;
use muster_server::store::queries::{Bootstrap, Deletion};
use muster_server::store::writer::{ManifestSize, OpenedSession, RecordManifest, RecordedManifest};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(a_tenant_stores_manifests_up_to_its_limit_and_deleted_agents_make_room);

const LIMIT: ManifestSize = ManifestSize { bytes: 1_000, scripts: 10 };

impl Fixture {
    /// The row of the fixture's tenant, which counts.
    async fn make_tenant(&self) {
        let tenant = tenant::Model {
            id: self.tenant_id,
            name: "tenant".into(),
            created_at: NOW,
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
        assert_eq!(stored == RecordedManifest::Stored, row.manifest == "reported");
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
    assert_eq!(first.expect("stored"), RecordedManifest::Stored);
    assert_eq!(second.expect("stored"), RecordedManifest::Refused);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let gone = tenant.delete_agent(one.agent_id, Deletion::Operator, NOW, audit(fixture.tenant_id));
    assert!(gone.await.expect("deleted").is_some());
    assert!(tenant.agent_manifest(one.agent_id).await.expect("read").is_none());
    assert_eq!(fixture.reported(&three, 600, 2).await, "reported");
}
