//! Limits of API keys in the transactions that they decide, on both databases.

use std::collections::BTreeSet;

use muster_server::domain::access::credential::SecretHash;
use muster_server::domain::access::keys::key_limits::KeyLimits;
use muster_server::domain::ids::{ApiKeyId, CommandId};
use muster_server::domain::time::Timestamp;
use muster_server::store::StoreError;
use muster_server::store::entities::access::api_key;
use muster_server::store::entities::column::StoredLimits;
use muster_server::store::queries::{
    AgentChange, ApiKeyChange, ApiKeyMatch, ApiKeyRotation, ChangedApiKey, CreatedApiKey,
};
use muster_server::store::writer::{MarkDelivered, SubmitCommand, Submitted, SubmittedJob};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    what_a_limited_key_requested_is_sent_only_while_key_and_tags_allow_it,
    a_limited_key_sends_nothing_with_its_insert,
    a_key_that_is_narrowed_at_the_same_time_passes_nothing_on,
    a_change_narrows_the_whole_line_and_keeps_the_last_publisher,
    a_secret_belongs_to_its_key_until_the_rotation_after_the_next,
);

fn limits(target: Option<&str>, scripts: Option<&[&str]>) -> KeyLimits {
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    KeyLimits {
        targets: target.map(str::to_owned).into_iter().collect(),
        scripts: scripts.map(set),
        max_fan_out: None,
    }
}

impl Fixture {
    async fn limited_key(&self, limits: KeyLimits) -> api_key::Model {
        let row = self.new_api_key(&["api_keys:write", "commands:run"], None);
        let row = api_key::Model { limits: Some(StoredLimits(limits)), ..row };
        self.store_key(&row).await;
        row
    }

    async fn store_key(&self, row: &api_key::Model) {
        let tenant = self.store.tenant(self.tenant_id);
        let stored = tenant.create_api_key(row.clone(), None, audit(self.tenant_id)).await;
        assert_eq!(stored.expect("made"), CreatedApiKey::Stored);
    }

    async fn key_row(&self, id: ApiKeyId) -> api_key::Model {
        let tenant = self.store.tenant(self.tenant_id);
        tenant.api_key(id).await.expect("read").expect("it exists")
    }

    async fn change_limits(&self, id: ApiKeyId, limits: KeyLimits) -> ChangedApiKey {
        let known = self.key_row(id).await;
        let mut rights = known.rights();
        rights.limits = limits;
        let changed = known.clone().with_rights(rights);
        let change = ApiKeyChange { known, changed, presented: None, now: NOW };
        let tenant = self.store.tenant(self.tenant_id);
        tenant.change_api_key(change, audit(self.tenant_id)).await.expect("answered")
    }
}

async fn what_a_limited_key_requested_is_sent_only_while_key_and_tags_allow_it(fixture: Fixture) {
    let session = fixture.agent("one").await;
    let key = fixture.limited_key(limits(Some("tag:web"), Some(&["deploy"]))).await;
    let tag = async |tags: &[&str]| {
        let tags = Some(tags.iter().map(|tag| (*tag).to_owned()).collect());
        let change = AgentChange { tags, may_change_targets: true, ..AgentChange::default() };
        let tenant = fixture.store.tenant(fixture.tenant_id);
        tenant.update_agent(session.agent_id, change, audit(fixture.tenant_id)).await.expect("set");
    };
    let queued = async || {
        let mut submission = fixture.submission(session.agent_id);
        submission.row.requested_by = key.id.into();
        submission.row.script = Some("deploy".into());
        let id = submission.row.id;
        fixture.store.writer().commit(submission).await.expect("stored");
        id
    };
    let mark = async |ids: Vec<CommandId>| {
        let (agent_id, epoch) = (session.agent_id, session.epoch);
        let operation = MarkDelivered { agent_id, epoch, command_ids: ids, now: NOW };
        fixture.store.writer().commit(operation).await.expect("answered")
    };
    let outside = async |id: CommandId| {
        let tenant = fixture.store.tenant(fixture.tenant_id);
        assert!(tenant.command(id).await.expect("read").is_some());
        let agents = [session.agent_id];
        let rows = fixture.store.system().deliverable(&agents, NOW, 100, 100).await.expect("read");
        let found = fixture.store.system().outside_limits(&rows).await.expect("read");
        found.contains(&id)
    };
    tag(&[]).await;
    let first = queued().await;
    assert!(mark(vec![first]).await.is_empty(), "the agent lacks the tag");
    assert!(outside(first).await);
    tag(&["web"]).await;
    assert!(!outside(first).await);
    assert_eq!(mark(vec![first]).await, [first]);
    // The key is narrowed between the submission and the sending.
    let second = queued().await;
    let narrower = limits(Some("tag:web"), Some(&["status"]));
    let changed = fixture.change_limits(key.id, narrower).await;
    assert_eq!(changed, ChangedApiKey::Done { narrowed: vec![] });
    assert!(mark(vec![second]).await.is_empty() && outside(second).await);
    fixture.change_limits(key.id, limits(Some("tag:web"), None)).await;
    assert_eq!(mark(vec![second]).await, [second]);
}

async fn a_limited_key_sends_nothing_with_its_insert(fixture: Fixture) {
    let session = fixture.agent("one").await;
    let key = fixture.limited_key(limits(Some("tag:web"), None)).await;
    let mut submission = fixture.submission(session.agent_id);
    submission.row.requested_by = key.id.into();
    let submission = SubmitCommand { deliver_in_epoch: Some(session.epoch), ..submission };
    let stored = fixture.store.writer().commit(submission).await.expect("answered");
    assert_eq!(stored, Submitted::New { delivered: false });
    let (_, mut job) = fixture.job_submission(&[&session]);
    job.row.requested_by = key.id.into();
    for execution in &mut job.executions {
        execution.row.requested_by = key.id.into();
        execution.deliver_in_epoch = Some(session.epoch);
    }
    let stored = fixture.store.writer().commit(job).await.expect("answered");
    assert_eq!(stored, SubmittedJob::New { delivered: vec![], gone: 0 });
}

/// The request of the key was authenticated with its former rights.
async fn a_key_that_is_narrowed_at_the_same_time_passes_nothing_on(fixture: Fixture) {
    let maker = fixture.limited_key(limits(Some("tag:web"), None)).await;
    let child = api_key::Model {
        created_by: Some(maker.id.into()),
        limits: maker.limits.clone(),
        ..fixture.new_api_key(&["commands:run"], None)
    };
    fixture.change_limits(maker.id, limits(Some("tag:web"), Some(&["deploy"]))).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let made = tenant.create_api_key(child.clone(), None, fixture.audit_of(maker.id)).await;
    assert_eq!(made.expect("answered"), CreatedApiKey::MakerChanged);
    assert!(tenant.api_key(child.id).await.expect("read").is_none());

    // A change that was computed from the former row of the child, its maker or its actor.
    let child = child.with_rights(fixture.key_row(maker.id).await.rights());
    fixture.store_key(&child).await;
    let stale =
        ApiKeyChange { known: child.clone(), changed: child.clone(), presented: None, now: NOW };
    let freed = |known: api_key::Model| {
        let mut rights = known.rights();
        rights.limits = KeyLimits::default();
        ApiKeyChange {
            changed: known.clone().with_rights(rights),
            known,
            presented: None,
            now: NOW,
        }
    };
    let wide = tenant.change_api_key(freed(child.clone()), audit(fixture.tenant_id)).await;
    assert_eq!(wide.expect("answered"), ChangedApiKey::Changed, "wider than its maker");
    let changed = fixture.change_limits(maker.id, limits(Some("tag:eu"), Some(&["deploy"]))).await;
    assert_eq!(changed, ChangedApiKey::Done { narrowed: vec![child.id] });
    let late = tenant.change_api_key(stale, audit(fixture.tenant_id)).await;
    assert_eq!(late.expect("answered"), ChangedApiKey::Changed, "the row was changed");
    let other = fixture.api_key(&["commands:run"], None).await;
    let other = fixture.key_row(other).await;
    let wide = tenant.change_api_key(freed(other.clone()), fixture.audit_of(maker.id)).await;
    assert_eq!(wide.expect("answered"), ChangedApiKey::Changed, "wider than who asks");
    let rotation = ApiKeyRotation {
        hash: SecretHash([7; 32]),
        prefix: "mst_live_new".into(),
        by: maker.id.into(),
        presented: None,
        now: NOW,
        previous_valid_until: NOW,
    };
    let taken = tenant.rotate_api_key(other.id, rotation, fixture.audit_of(maker.id)).await;
    assert!(matches!(taken, Err(StoreError::KeyInvalid)), "{taken:?}");
}

async fn a_change_narrows_the_whole_line_and_keeps_the_last_publisher(fixture: Fixture) {
    let both = ["api_keys:write", "releases:manage"];
    let first = fixture.new_api_key(&both, None);
    fixture.store_key(&first).await;
    let line = async |maker: ApiKeyId| {
        let row = fixture.new_api_key(&both, None);
        let row = api_key::Model { created_by: Some(maker.into()), ..row };
        fixture.store_key(&row).await;
        row.id
    };
    let second = line(first.id).await;
    let third = line(second).await;
    let without = |known: api_key::Model, expires_at: Option<Timestamp>| {
        let mut rights = known.rights();
        rights.scopes.retain(|scope| scope.to_string() == "api_keys:write");
        rights.expires_at = expires_at;
        ApiKeyChange {
            changed: known.clone().with_rights(rights),
            known,
            presented: None,
            now: NOW,
        }
    };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let change = without(first.clone(), None);
    let refused = tenant.change_api_key(change, audit(fixture.tenant_id)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "all publishers end: {refused:?}");
    assert_eq!(fixture.key_row(third).await.rights(), first.rights(), "nothing was changed");
    let other = fixture.api_key(&both, None).await;
    let expires_at = Some(NOW.plus_ms(1_000));
    let change = without(first.clone(), expires_at);
    let changed = tenant.change_api_key(change, audit(fixture.tenant_id)).await.expect("answered");
    let ChangedApiKey::Done { narrowed } = changed else { panic!("{changed:?}") };
    assert_eq!(narrowed.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([second, third]));
    for id in [first.id, second, third] {
        let row = fixture.key_row(id).await;
        assert_eq!((row.scopes.0, row.expires_at), (vec![both[0].to_owned()], expires_at));
    }
    assert_eq!(fixture.key_row(other).await.scopes.0, both.map(str::to_owned));
}

async fn a_secret_belongs_to_its_key_until_the_rotation_after_the_next(fixture: Fixture) {
    let row = fixture.new_api_key(&[], None);
    let hash = |text: &str| SecretHash::of(text);
    let row = api_key::Model { secret_hash: hash("one").0.to_vec(), ..row };
    fixture.store_key(&row).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let rotate = async |text: &str| {
        let rotation = ApiKeyRotation {
            hash: hash(text),
            prefix: text.into(),
            by: row.id.into(),
            presented: None,
            now: NOW,
            previous_valid_until: NOW.plus_ms(5),
        };
        let rotated = tenant.rotate_api_key(row.id, rotation, audit(fixture.tenant_id)).await;
        rotated.expect("answered").expect("it exists")
    };
    let find = async |text: &str| {
        let found = fixture.store.system().find_api_key(hash(text)).await.expect("read");
        match found {
            ApiKeyMatch::Key(_) => "key",
            ApiKeyMatch::Previous(_) => "previous",
            ApiKeyMatch::Unknown => "unknown",
        }
    };
    let rotated = rotate("two").await;
    assert_eq!((rotated.id, rotated.previous_valid_until), (row.id, Some(NOW.plus_ms(5))));
    assert_eq!((find("one").await, find("two").await), ("previous", "key"));
    rotate("three").await;
    let all = (find("one").await, find("two").await, find("three").await);
    assert_eq!(all, ("unknown", "previous", "key"));
    let uses = [(hash("two").0, NOW), (hash("one").0, NOW.plus_ms(9))].into_iter().collect();
    fixture.store.system().record_key_uses(uses).await.expect("stored");
    let shown = fixture.key_row(row.id).await;
    assert_eq!((shown.last_used_at, shown.previous_used_at), (Some(NOW), Some(NOW)));
    let entry = audit(fixture.tenant_id);
    let ended = tenant.end_previous_secret(row.id, None, NOW, entry).await.expect("answered");
    assert_eq!(ended.expect("it exists").previous_valid_until, Some(NOW));
}
