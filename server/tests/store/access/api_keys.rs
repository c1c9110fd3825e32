//! API keys that must not be lost, on both databases.

use muster_server::domain::access::principal::{ActorKind, Role};
use muster_server::domain::ids::{ApiKeyId, AuditId, CommandId};
use muster_server::domain::time::Timestamp;
use muster_server::store::StoreError;
use muster_server::store::entities::access::{api_key, audit_entry};
use muster_server::store::entities::column::StringList;
use muster_server::store::queries::{AgentChange, RevocationScope};
use muster_server::store::writer::{AppendAudit, SubmitCommand, Submitted, SubmittedJob};

use sea_orm::EntityTrait as _;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    the_last_key_that_can_grant_publishing_is_not_revoked,
    when_the_last_two_publishing_keys_are_revoked_at_once_one_stays,
    what_a_key_requested_before_it_was_revoked_is_not_stored_after,
    a_key_that_is_revoked_creates_no_key_that_outlives_it,
    a_key_can_revoke_itself,
);

const BOTH: [&str; 2] = ["api_keys:write", "releases:manage"];

impl Fixture {
    pub async fn api_key(&self, scopes: &[&str], expires_at: Option<Timestamp>) -> ApiKeyId {
        let row = self.new_api_key(scopes, expires_at);
        let id = row.id;
        let tenant = self.store.tenant(self.tenant_id);
        tenant.create_api_key(row, None, audit(self.tenant_id)).await.expect("made");
        id
    }

    pub fn new_api_key(&self, scopes: &[&str], expires_at: Option<Timestamp>) -> api_key::Model {
        let id = ApiKeyId::new();
        api_key::Model {
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
            limits: None,
            previous_secret_hash: None,
            previous_prefix: None,
            previous_valid_until: None,
            rotated_by: None,
            last_used_at: None,
            previous_used_at: None,
        }
    }

    /// The entry of an action that this key requested.
    pub fn audit_of(&self, id: ApiKeyId) -> audit_entry::Model {
        let (actor_kind, actor_id) = (ActorKind::ApiKey, Some(id.0));
        audit_entry::Model { actor_kind, actor_id, ..audit(self.tenant_id) }
    }

    async fn has_command(&self, id: CommandId) -> bool {
        let tenant = self.store.tenant(self.tenant_id);
        tenant.command(id).await.expect("read").is_some()
    }

    async fn has_audit_entry(&self, id: AuditId) -> bool {
        let found = audit_entry::Entity::find_by_id(id).one(self.rows().await).await;
        found.expect("read").is_some()
    }

    async fn revoke(&self, id: ApiKeyId) -> bool {
        let tenant = self.store.tenant(self.tenant_id);
        match tenant
            .revoke_api_key(id, RevocationScope::default(), None, NOW, audit(self.tenant_id))
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
        // It could pass the scope to no key.
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

/// Each of these requests was authenticated, and reaches the writer after the revocation.
async fn what_a_key_requested_before_it_was_revoked_is_not_stored_after(fixture: Fixture) {
    let session = fixture.agent("one").await;
    let (revoked, expired) =
        (fixture.api_key(&[], None).await, fixture.api_key(&[], Some(NOW)).await);
    let kept = fixture.api_key(&[], None).await;
    assert!(fixture.revoke(revoked).await);
    let writer = fixture.store.writer();
    let submission = |key: ApiKeyId| {
        let mut submission = fixture.submission(session.agent_id);
        submission.row.requested_by = key.into();
        SubmitCommand { deliver_in_epoch: Some(session.epoch), ..submission }
    };
    // Together, as the writer may merge them into one transaction.
    let (one, two, three) = (submission(revoked), submission(expired), submission(kept));
    let ids = [one.row.id, two.row.id, three.row.id];
    let (one, two, three) =
        tokio::join!(writer.commit(one), writer.commit(two), writer.commit(three));
    assert_eq!(one.expect("answered"), Submitted::KeyInvalid);
    assert_eq!(two.expect("answered"), Submitted::KeyInvalid);
    assert_eq!(three.expect("answered"), Submitted::New { delivered: true });
    assert!(!fixture.has_command(ids[0]).await && !fixture.has_command(ids[1]).await);
    assert!(fixture.has_command(ids[2]).await);

    let (job_id, mut job) = fixture.job_submission(&[&session]);
    job.row.requested_by = revoked.into();
    let execution = job.executions[0].row.id;
    assert_eq!(writer.commit(job).await.expect("answered"), SubmittedJob::KeyInvalid);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.job(job_id).await.expect("read").is_none());
    assert!(!fixture.has_command(execution).await);

    // Changes of rows.
    for (key, is_stored) in [(revoked, false), (expired, false), (kept, true)] {
        let change = AgentChange { name: Some(format!("of {key}")), ..AgentChange::default() };
        let changed = tenant.update_agent(session.agent_id, change, fixture.audit_of(key)).await;
        assert_eq!(changed.is_ok(), is_stored, "{changed:?}");
    }

    // Actions that only leave an entry, such as transient commands.
    let entries = [revoked, expired, kept].map(|key| fixture.audit_of(key));
    let ids = entries.each_ref().map(|entry| entry.id);
    let [one, two, three] = entries.map(|entry| writer.commit(AppendAudit(entry)));
    let (one, two, three) = tokio::join!(one, two, three);
    assert!(matches!(one, Err(StoreError::KeyInvalid)), "{one:?}");
    assert!(matches!(two, Err(StoreError::KeyInvalid)), "{two:?}");
    three.expect("stored");
    let mut stored = Vec::new();
    for id in ids {
        stored.push(fixture.has_audit_entry(id).await);
    }
    assert_eq!(stored, [false, false, true]);
}

async fn a_key_that_is_revoked_creates_no_key_that_outlives_it(fixture: Fixture) {
    let revoked = fixture.api_key(&BOTH, None).await;
    fixture.api_key(&BOTH, None).await;
    assert!(fixture.revoke(revoked).await);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let child = fixture.new_api_key(&[], None);
    let id = child.id;
    let made = tenant.create_api_key(child, None, fixture.audit_of(revoked)).await;
    assert!(matches!(made, Err(StoreError::KeyInvalid)), "{made:?}");
    assert!(tenant.api_key(id).await.expect("read").is_none());
    let (scope, entry) = (RevocationScope::default(), fixture.audit_of(revoked));
    let other = fixture.api_key(&[], None).await;
    let stopped = tenant.revoke_api_key(other, scope, None, NOW, entry).await;
    assert!(matches!(stopped, Err(StoreError::KeyInvalid)), "{stopped:?}");
}

async fn a_key_can_revoke_itself(fixture: Fixture) {
    let id = fixture.api_key(&[], None).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let (scope, entry) = (RevocationScope::default(), fixture.audit_of(id));
    let revoked = tenant.revoke_api_key(id, scope, None, NOW, entry).await.expect("revoked");
    assert_eq!(revoked.expect("a key").keys, [id]);
}
