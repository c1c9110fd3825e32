//! Signatures of packages: one of each publisher, of one tenant, and gone with the package.

use muster_protocol::library::ScriptSignature;
use muster_server::domain::ids::{PackageId, PackageSignatureId, TenantId};
use muster_server::domain::library::assignment_records::AssignedKind;
use muster_server::store::entities::library::package_signature;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_package_has_one_signature_of_each_publisher_up_to_the_limit,
    signatures_are_of_one_tenant_and_reach_the_agents_with_their_assignments,
    signatures_are_deleted_with_their_package,
);

const MOST: u64 = 2;

fn row(
    tenant_id: TenantId,
    package_id: PackageId,
    publisher: &str,
    statement: &str,
) -> package_signature::Model {
    package_signature::Model {
        id: PackageSignatureId::new(),
        tenant_id,
        package_id,
        publisher: publisher.into(),
        statement: statement.into(),
        signature: format!("of {publisher}"),
        created_at: NOW,
    }
}

impl Fixture {
    async fn sign(&self, row: package_signature::Model) -> bool {
        let tenant_id = row.tenant_id;
        let tenant = self.store.tenant(tenant_id);
        tenant.sign_package(row, MOST, audit(tenant_id)).await.expect("a transaction")
    }

    async fn statements(&self, tenant_id: TenantId, id: PackageId) -> Vec<String> {
        let tenant = self.store.tenant(tenant_id);
        let found = tenant.package_signatures(vec![id]).await.expect("read").remove(&id);
        found.unwrap_or_default().into_iter().map(|signature| signature.statement).collect()
    }
}

async fn a_package_has_one_signature_of_each_publisher_up_to_the_limit(fixture: Fixture) {
    let tenant_id = fixture.tenant_id;
    let id = fixture.package(tenant_id).await;
    assert_eq!(fixture.statements(tenant_id, id).await, [""; 0]);
    assert!(fixture.sign(row(tenant_id, id, "one", "first")).await);
    assert!(fixture.sign(row(tenant_id, id, "another", "second")).await);
    let noted = fixture.audit_entries().await.len();
    assert!(!fixture.sign(row(tenant_id, id, "third", "third")).await);
    assert_eq!(
        fixture.audit_entries().await.len(),
        noted,
        "a refused signature is in the audit log"
    );
    assert_eq!(fixture.statements(tenant_id, id).await, ["first", "second"]);
    // A later signature of a publisher replaces the earlier one, also at the limit.
    assert!(fixture.sign(row(tenant_id, id, "one", "renewed")).await);
    assert_eq!(fixture.statements(tenant_id, id).await, ["second", "renewed"]);
    assert_eq!(fixture.audit_entries().await.len(), noted + 1);
    // Another package has its own.
    let other = fixture.package_named(tenant_id, "other").await;
    assert!(fixture.sign(row(tenant_id, other, "third", "of the other")).await);
    assert_eq!(fixture.statements(tenant_id, id).await, ["second", "renewed"]);
    assert_eq!(fixture.statements(tenant_id, other).await, ["of the other"]);
}

async fn signatures_are_of_one_tenant_and_reach_the_agents_with_their_assignments(
    fixture: Fixture,
) {
    let (tenant_id, foreign) = (fixture.tenant_id, TenantId::new());
    let id = fixture.package(tenant_id).await;
    assert!(fixture.sign(row(tenant_id, id, "one", "first")).await);
    assert!(!fixture.sign(row(foreign, id, "one", "of a foreigner")).await);
    assert_eq!(fixture.statements(tenant_id, id).await, ["first"]);
    assert_eq!(fixture.statements(foreign, id).await, [""; 0]);
    assert!(!fixture.sign(row(tenant_id, PackageId::new(), "one", "of no package")).await);

    fixture.assign_kind(tenant_id, id, "one", AssignedKind::Task).await.expect("assigned");
    let tenant = fixture.store.tenant(tenant_id);
    let wanted = tenant.wanted_assignments(NOW).await.expect("read");
    let signatures: Vec<_> =
        wanted.into_iter().flat_map(|wanted| wanted.content.signatures).collect();
    let signature = ScriptSignature { statement: "first".into(), signature: "of one".into() };
    assert_eq!(signatures, [signature]);
}

async fn signatures_are_deleted_with_their_package(fixture: Fixture) {
    let tenant_id = fixture.tenant_id;
    let id = fixture.package(tenant_id).await;
    let kept = fixture.package_named(tenant_id, "kept").await;
    for package in [id, kept] {
        assert!(fixture.sign(row(tenant_id, package, "one", "first")).await);
    }
    let tenant = fixture.store.tenant(tenant_id);
    assert!(tenant.delete_package(id, audit(tenant_id)).await.expect("deleted"));
    assert_eq!(fixture.statements(tenant_id, id).await, [""; 0]);
    assert_eq!(fixture.statements(tenant_id, kept).await, ["first"]);
}
