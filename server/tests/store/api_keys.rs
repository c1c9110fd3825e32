//! API keys that must not be lost, on both databases.

use muster_server::domain::access::principal::Role;
use muster_server::domain::ids::ApiKeyId;
use muster_server::domain::time::Timestamp;
use muster_server::store::StoreError;
use muster_server::store::entities::access::api_key;
use muster_server::store::entities::column::StringList;
use muster_server::store::queries::RevocationScope;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    the_last_key_that_can_grant_publishing_is_not_revoked,
    when_the_last_two_publishing_keys_are_revoked_at_once_one_stays,
);

const BOTH: [&str; 2] = ["api_keys:write", "releases:manage"];

impl Fixture {
    async fn api_key(&self, scopes: &[&str], expires_at: Option<Timestamp>) -> ApiKeyId {
        let id = ApiKeyId::new();
        let row = api_key::Model {
            id,
            tenant_id: self.tenant_id,
            name: "key".into(),
            prefix: "mst_live_".into(),
            secret_hash: id.0.as_bytes().to_vec(),
            role: Role::Owner,
            scopes: StringList(scopes.iter().map(|scope| (*scope).to_owned()).collect()),
            created_at: NOW,
            created_by: None,
            expires_at,
            revoked_at: None,
        };
        let tenant = self.store.tenant(self.tenant_id);
        tenant.create_api_key(row, audit(self.tenant_id)).await.expect("made");
        id
    }

    async fn revoke(&self, id: ApiKeyId) -> bool {
        let tenant = self.store.tenant(self.tenant_id);
        match tenant
            .revoke_api_key(id, RevocationScope::default(), NOW, audit(self.tenant_id))
            .await
        {
            Err(StoreError::Refused(_)) => false,
            revoked => revoked.expect("asked").is_some(),
        }
    }
}

async fn the_last_key_that_can_grant_publishing_is_not_revoked(fixture: Fixture) {
    let first = fixture.api_key(&BOTH, None).await;
    for (scopes, expires_at) in [
        // It could give the scope to nobody.
        (&BOTH[1..], None),
        (&BOTH[..1], None),
        // It lasts less long.
        (&BOTH[..], Some(NOW.plus_ms(60_000))),
        (&BOTH[..], Some(NOW)),
    ] {
        let other = fixture.api_key(scopes, expires_at).await;
        assert!(!fixture.revoke(first).await, "{scopes:?} until {expires_at:?}");
        assert!(fixture.revoke(other).await, "{scopes:?} until {expires_at:?}");
    }
    assert!(!fixture.revoke(first).await, "those that were revoked don't count");
    let second = fixture.api_key(&BOTH, None).await;
    assert!(fixture.revoke(first).await);
    assert!(!fixture.revoke(second).await);
}

async fn when_the_last_two_publishing_keys_are_revoked_at_once_one_stays(fixture: Fixture) {
    let (one, two) = (fixture.api_key(&BOTH, None).await, fixture.api_key(&BOTH, None).await);
    let (one, two) = tokio::join!(fixture.revoke(one), fixture.revoke(two));
    assert!(one != two, "one is revoked, and one is not");
}
