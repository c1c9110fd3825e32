//! Releases and their keys, on both databases.

use muster_server::domain::ids::{PrincipalId, ReleaseId};
use muster_server::domain::page::PageRequest;
use muster_server::store::StoreError;
use muster_server::store::entities::releases::{release, release_key_change};
use muster_server::store::queries::Publication;
use muster_server::store::writer::{AgentIdentity, OpenSession, SessionOpening};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_release_is_available_from_its_publication_to_its_withdrawal,
    a_release_that_changed_since_it_was_checked_is_not_published,
    a_release_key_is_replaced_only_once,
    an_update_result_is_kept_until_the_next_one,
);

const BY: PrincipalId = PrincipalId(Uuid::nil());
const FIRST: PageRequest = PageRequest { after: None, limit: 50 };

fn draft(version: &str) -> release::Model {
    release::Model {
        id: ReleaseId::new(),
        version: version.into(),
        descriptor: format!("of {version}"),
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
}

async fn a_release_is_available_from_its_publication_to_its_withdrawal(fixture: Fixture) {
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
    assert_eq!((last.id, system.releases(FIRST, false).await.expect("read").len()), (row.id, 1));
}

async fn a_release_that_changed_since_it_was_checked_is_not_published(fixture: Fixture) {
    let first = fixture.drafted("0.1.0").await;
    let replaced = fixture.drafted("0.1.0").await;
    assert_ne!(first.id, replaced.id);
    assert_eq!(fixture.publish(first, None).await, None, "another draft took its place");
    let published = fixture.publish(replaced, None).await.expect("as judged");
    let second = fixture.drafted("0.2.0").await;
    assert_eq!(fixture.publish(second.clone(), None).await, None, "another was published");
    assert!(fixture.publish(second, Some(published.id)).await.is_some());
}

async fn a_release_key_is_replaced_only_once(fixture: Fixture) {
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

async fn an_update_result_is_kept_until_the_next_one(fixture: Fixture) {
    let mut session = fixture.agent("machine").await;
    for result in [Some("first"), None] {
        let registration = fixture.registration("machine");
        let mut identity = registration.identity;
        if let AgentIdentity::Full { agent_id, .. } = &mut identity {
            *agent_id = Some(session.agent_id);
        }
        let update_result = result.map(str::to_owned);
        let registration =
            OpenSession { identity, update_result, ..fixture.registration("machine") };
        session = match fixture.open(registration).await {
            SessionOpening::Opened(opened) => *opened,
            SessionOpening::Refused(code) => panic!("refused with {code:?}"),
        };
    }
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let shown = async || {
        let agent = tenant.agent(session.agent_id).await.expect("read").expect("there");
        (agent.update_result.unwrap_or_default(), agent.update_result_at)
    };
    assert_eq!(shown().await, ("first".into(), Some(NOW)));
    let later = NOW.plus_ms(5);
    for (epoch, result) in [(session.epoch - 1, "stale"), (session.epoch, "second")] {
        let id = session.agent_id;
        tenant.record_update_result(id, epoch, result.into(), later).await.expect("asked");
    }
    assert_eq!(shown().await, ("second".into(), Some(later)));
}
