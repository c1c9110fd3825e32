//! Releases and their keys, and groups that want one, on both databases.

use muster_server::domain::group::{GroupState, UpdateState};
use muster_server::domain::ids::{ApiKeyId, CommandId, GroupId, ReleaseId};
use muster_server::domain::page::PageRequest;
use muster_server::store::StoreError;
use muster_server::store::entities::{agent_update, group, release, release_key_change};
use muster_server::store::queries::{GroupChange, Publication};
use muster_server::store::writer::{AgentIdentity, OpenSession, SessionOpening};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_release_is_open_from_its_publication_to_its_withdrawal,
    a_release_is_published_as_it_was_judged_or_not_at_all,
    a_key_hands_over_once,
    a_verdict_is_kept_until_another_is_told,
    a_group_moves_only_as_long_as_it_is_what_was_decided_on,
    another_wish_forgets_what_was_done_for_the_one_before,
);

const BY: ApiKeyId = ApiKeyId(Uuid::nil());
const FIRST: PageRequest = PageRequest { after: None, limit: 50 };

fn draft(version: &str) -> release::Model {
    release::Model {
        id: ReleaseId::new(),
        version: version.into(),
        manifest: format!("of {version}"),
        signature: "signature".into(),
        release_key: "key".into(),
        created_at: NOW,
        created_by: BY,
        published_at: None,
        published_by: None,
        withdrawn_at: None,
    }
}

impl Fixture {
    async fn drafted(&self, version: &str) -> release::Model {
        let row = draft(version);
        let system = self.store.system();
        system.draft_release(row.clone(), audit(self.tenant_id)).await.expect("drafted");
        row
    }

    async fn publish(
        &self,
        judged: release::Model,
        after: Option<ReleaseId>,
    ) -> Option<release::Model> {
        let publication = Publication { at: NOW, by: BY, after };
        let audit = audit(self.tenant_id);
        self.store.system().publish_release(judged, publication, audit).await.expect("asked")
    }

    async fn group(&self, name: &str) -> group::Model {
        let row = group::Model {
            id: GroupId::new(),
            tenant_id: self.tenant_id,
            name: name.into(),
            target: r#"{"expression":"all"}"#.into(),
            wanted_version: Some("0.2.0".into()),
            wave_size: "1".into(),
            max_failures: "\"10%\"".into(),
            healthy_for_ms: 0,
            state: GroupState::Active,
            halt_reason: None,
            wish: 1,
            wave: 0,
            wanted_by: BY,
            created_at: NOW,
            changed_at: NOW,
        };
        let tenant = self.store.tenant(self.tenant_id);
        tenant.create_group(row.clone(), 2, audit(self.tenant_id)).await.expect("made");
        row
    }
}

async fn a_release_is_open_from_its_publication_to_its_withdrawal(fixture: Fixture) {
    let system = fixture.store.system();
    let row = fixture.drafted("0.1.0").await;
    assert!(system.open_releases().await.expect("read").is_empty());
    assert_eq!(system.release_drafts().await.expect("counted"), 1);
    let published = fixture.publish(row.clone(), None).await.expect("as judged");
    assert!(published.is_open());
    let open = system.open_releases().await.expect("read");
    assert_eq!(open, std::slice::from_ref(&published));
    assert_eq!(system.release_drafts().await.expect("counted"), 0);
    let again = system.draft_release(draft("0.1.0"), audit(fixture.tenant_id)).await;
    assert!(matches!(again, Err(StoreError::Refused(_))), "{again:?}");
    for _ in 0..2 {
        let audit = audit(fixture.tenant_id);
        let withdrawn = system.withdraw_release("0.1.0".into(), NOW, audit).await.expect("asked");
        assert!(!withdrawn.expect("there").is_open());
    }
    assert!(system.open_releases().await.expect("read").is_empty());
    let last = system.last_published_release().await.expect("read").expect("there");
    assert_eq!((last.id, system.releases(FIRST).await.expect("read").len()), (row.id, 1));
}

async fn a_release_is_published_as_it_was_judged_or_not_at_all(fixture: Fixture) {
    let first = fixture.drafted("0.1.0").await;
    let replaced = fixture.drafted("0.1.0").await;
    assert_ne!(first.id, replaced.id);
    assert_eq!(fixture.publish(first, None).await, None, "another draft took its place");
    let published = fixture.publish(replaced, None).await.expect("as judged");
    let second = fixture.drafted("0.2.0").await;
    assert_eq!(fixture.publish(second.clone(), None).await, None, "another was published");
    assert!(fixture.publish(second, Some(published.id)).await.is_some());
}

async fn a_key_hands_over_once(fixture: Fixture) {
    let change = |old: &str, new: &str| release_key_change::Model {
        id: Uuid::now_v7(),
        old_key: old.into(),
        new_key: new.into(),
        signature: "signature".into(),
        created_at: NOW,
        created_by: BY,
    };
    let system = fixture.store.system();
    let add = async |old: &str, new: &str| {
        let added = system.add_release_key_change(change(old, new), 2, audit(fixture.tenant_id));
        added.await.is_ok()
    };
    assert!(add("one", "two").await);
    assert!(!add("one", "three").await);
    assert!(!add("three", "two").await);
    assert!(add("two", "three").await);
    assert!(!add("three", "four").await, "that is one too many");
    let known = system.release_key_changes().await.expect("read");
    assert_eq!(known.iter().map(|row| row.new_key.as_str()).collect::<Vec<_>>(), ["two", "three"]);
}

async fn a_verdict_is_kept_until_another_is_told(fixture: Fixture) {
    let mut session = fixture.agent("machine").await;
    for verdict in [Some("first"), None] {
        let registration = fixture.registration("machine");
        let AgentIdentity::Full { machine_id, ledger_id, instance_id, .. } = registration.identity
        else {
            panic!("the fixture's agents are full ones")
        };
        let identity = AgentIdentity::Full {
            agent_id: Some(session.agent_id),
            machine_id,
            ledger_id,
            acceptance_count: 0,
            instance_id,
            highest_epoch: 0,
        };
        let update_verdict = verdict.map(str::to_owned);
        let registration =
            OpenSession { identity, update_verdict, ..fixture.registration("machine") };
        session = match fixture.open(registration).await {
            SessionOpening::Opened(opened) => *opened,
            SessionOpening::Refused(code) => panic!("refused with {code:?}"),
        };
    }
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let shown = async || {
        let agent = tenant.agent(session.agent_id).await.expect("read").expect("there");
        (agent.update_verdict.unwrap_or_default(), agent.update_verdict_at)
    };
    assert_eq!(shown().await, ("first".into(), Some(NOW)));
    let later = NOW.plus_ms(5);
    for (epoch, verdict) in [(session.epoch - 1, "stale"), (session.epoch, "second")] {
        let id = session.agent_id;
        tenant.record_update_verdict(id, epoch, verdict.into(), later).await.expect("asked");
    }
    assert_eq!(shown().await, ("second".into(), Some(later)));
}

async fn a_group_moves_only_as_long_as_it_is_what_was_decided_on(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = fixture.group("one").await;
    let twice = tenant.create_group(
        group::Model { id: GroupId::new(), ..row.clone() },
        9,
        audit(fixture.tenant_id),
    );
    assert!(matches!(twice.await, Err(StoreError::Refused(_))));
    let session = fixture.agent("machine").await;
    let update = |state| agent_update::Model {
        agent_id: session.agent_id,
        tenant_id: fixture.tenant_id,
        group_id: row.id,
        wish: 1,
        wave: 1,
        state,
        command_id: CommandId::new(),
        tries: 1,
        due_at: NOW,
        code: None,
        message: None,
        changed_at: NOW,
    };
    let begun = update(UpdateState::Updating);
    let advance = async |on: &group::Model, wave, row| {
        tenant.advance_group(on.clone(), wave, vec![row]).await.expect("asked")
    };
    assert!(advance(&row, 1, begun.clone()).await);
    assert!(!advance(&row, 1, begun).await, "it is in another wave by now");
    let now = group::Model { wave: 1, ..row.clone() };
    let failed = update(UpdateState::Failed);
    assert!(advance(&now, 1, failed.clone()).await);
    assert_eq!(tenant.group_updates(row.id).await.expect("read"), [failed]);
    let halt = async |on: group::Model| {
        let audit = audit(fixture.tenant_id);
        tenant.halt_group(on, "why".into(), NOW.plus_ms(1), audit).await.expect("asked")
    };
    assert!(!halt(row.clone()).await);
    assert!(halt(now.clone()).await);
    assert!(!halt(now).await);
    assert!(fixture.store.system().active_groups().await.expect("read").is_empty());
}

async fn another_wish_forgets_what_was_done_for_the_one_before(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = fixture.group("one").await;
    let session = fixture.agent("machine").await;
    let update = agent_update::Model {
        agent_id: session.agent_id,
        tenant_id: fixture.tenant_id,
        group_id: row.id,
        wish: 1,
        wave: 1,
        state: UpdateState::Failed,
        command_id: CommandId::new(),
        tries: 1,
        due_at: NOW,
        code: Some("crashed".into()),
        message: Some("it crashed".into()),
        changed_at: NOW,
    };
    assert!(tenant.advance_group(row.clone(), 1, vec![update]).await.expect("asked"));
    let change = |forgets_updates, was_changed_at| GroupChange {
        row: group::Model { wish: 2, changed_at: NOW.plus_ms(1), ..row.clone() },
        was_changed_at,
        forgets_updates,
        retries_failed: false,
    };
    let ask = async |change| tenant.change_group(change, audit(fixture.tenant_id)).await;
    assert_eq!(ask(change(true, NOW.plus_ms(9))).await.expect("asked"), None, "it has changed");
    assert_eq!(tenant.group_updates(row.id).await.expect("read").len(), 1);
    assert!(ask(change(true, NOW)).await.expect("asked").is_some());
    assert!(tenant.group_updates(row.id).await.expect("read").is_empty());
    assert!(tenant.delete_group(row.id, audit(fixture.tenant_id)).await.expect("asked"));
    assert!(!tenant.delete_group(row.id, audit(fixture.tenant_id)).await.expect("asked"));
}
