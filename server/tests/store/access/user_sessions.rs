//! Sessions of people, their refresh tokens and the keys that sign access tokens, on both databases.

use muster_server::domain::access::credential::SecretHash;
use muster_server::domain::access::people::refresh_token::{
    PresentedRefresh, REFRESH_TOKEN_MS, RefreshDecision,
};
use muster_server::domain::access::principal::Role;
use muster_server::domain::ids::{MemberId, SessionId, TokenKeyId, UserId};
use muster_server::domain::time::Timestamp;
use muster_server::store::StoreError;
use muster_server::store::entities::access::{member, token_key, user, user_session};
use muster_server::store::queries::{MemberChange, NewOwner, NewSession, SessionsToEnd};
use sea_orm::EntityTrait as _;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    of_two_who_refresh_at_once_one_rotates_and_both_get_the_same,
    a_token_of_before_ends_the_session,
    a_session_is_not_made_for_a_removed_member_or_a_changed_password,
    the_oldest_session_of_a_member_ends_beyond_the_limit,
    of_two_owners_who_remove_each_other_at_once_one_stays,
    of_two_new_signing_keys_one_is_stored_and_old_ones_are_deleted,
);

const HASH: &str = "hash";
const DAY: u64 = 24 * 3_600_000;

fn token(number: u8) -> SecretHash {
    SecretHash([number; 32])
}

fn presented(number: u8) -> PresentedRefresh {
    PresentedRefresh { hash: token(number), next: token(number + 1), is_authentic: true }
}

impl Fixture {
    async fn person(&self, email: &str) -> (UserId, MemberId) {
        let user = user::Model {
            id: UserId::new(),
            email: email.into(),
            name: "A person".into(),
            password_hash: HASH.into(),
            created_at: NOW,
        };
        let member = member::Model {
            id: MemberId::new(),
            tenant_id: self.tenant_id,
            user_id: user.id,
            role: Role::Owner,
            created_at: NOW,
            removed_at: None,
            removed_by: None,
            is_from_setup: true,
        };
        let (user_id, audit) = (user.id, audit(self.tenant_id));
        let owner = NewOwner { user, member, audit };
        (user_id, self.store.system().create_owner(owner, NOW).await.expect("create").0)
    }

    async fn sign_in(&self, member_id: MemberId, hash: &str) -> Result<SessionId, StoreError> {
        let session = user_session::Model {
            id: SessionId::new(),
            tenant_id: self.tenant_id,
            member_id,
            created_at: NOW,
            refreshed_at: NOW,
            expires_at: NOW.plus_ms(REFRESH_TOKEN_MS),
            confirmed_at: NOW,
            confirmed_by_passkey: false,
            refresh_hash: token(1).0.to_vec(),
            previous_refresh_hash: None,
            revoked_at: None,
            source: None,
        };
        let (id, audits) = (session.id, vec![audit(self.tenant_id)]);
        let password_hash = hash.to_owned();
        let device_login = None;
        let new = NewSession {
            session,
            password_hash,
            factor: None,
            replaces: None,
            device_login,
            audits,
            notice: None,
        };
        self.store.system().create_session(new).await.map(|_| id)
    }

    async fn refresh(&self, id: SessionId, number: u8, at: Timestamp) -> RefreshDecision {
        let tenant_id = self.tenant_id;
        let system = self.store.system();
        let done = system.refresh_session(id, presented(number), at, move |_| audit(tenant_id));
        done.await.expect("refresh").expect("the session").decision
    }

    async fn is_live(&self, id: SessionId) -> bool {
        self.store.system().live_session(id).await.expect("read").is_some()
    }
}

async fn of_two_who_refresh_at_once_one_rotates_and_both_get_the_same(fixture: Fixture) {
    let (_, member) = fixture.person("a@b").await;
    let id = fixture.sign_in(member, HASH).await.expect("sign in");
    let (one, two) = tokio::join!(fixture.refresh(id, 1, NOW), fixture.refresh(id, 1, NOW));
    let decisions = [one, two];
    assert!(decisions.contains(&RefreshDecision::Rotate), "{decisions:?}");
    assert!(decisions.contains(&RefreshDecision::Repeat), "{decisions:?}");
    let live = fixture.store.system().live_session(id).await.expect("read").expect("live");
    assert_eq!(live.session.refresh_hash, token(2).0);
}

async fn a_token_of_before_ends_the_session(fixture: Fixture) {
    let (user, member) = fixture.person("a@b").await;
    let id = fixture.sign_in(member, HASH).await.expect("sign in");
    assert_eq!(fixture.refresh(id, 1, NOW).await, RefreshDecision::Rotate);
    let late = NOW.plus_ms(60_001);
    let entries = fixture.audit_entries().await.len();
    assert_eq!(fixture.refresh(id, 1, late).await, RefreshDecision::End);
    assert!(!fixture.is_live(id).await);
    assert_eq!(fixture.audit_entries().await.len(), entries + 1);
    assert_eq!(fixture.refresh(id, 2, late).await, RefreshDecision::Refuse);
    let none = fixture.store.system().sessions_of_user(user, NOW).await.expect("read");
    assert!(none.is_empty());
}

async fn a_session_is_not_made_for_a_removed_member_or_a_changed_password(fixture: Fixture) {
    let (user, member) = fixture.person("a@b").await;
    let refused = fixture.sign_in(member, "another hash").await;
    assert!(matches!(refused, Err(StoreError::SessionEnded)), "{refused:?}");
    let id = fixture.sign_in(member, HASH).await.expect("sign in");
    let other = fixture.sign_in(member, HASH).await.expect("sign in");
    let (stranger, _) = fixture.person("c@d").await;
    let system = fixture.store.system();
    let end = async |user, which| {
        system.end_sessions(user, which, NOW, audit(fixture.tenant_id)).await.expect("end")
    };
    assert_eq!(end(stranger, SessionsToEnd::One(id)).await, 0, "a session of another person");
    assert_eq!(end(user, SessionsToEnd::AllBut(id)).await, 1);
    assert!(fixture.is_live(id).await && !fixture.is_live(other).await);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let removed = tenant.remove_member(member, NOW, audit(fixture.tenant_id)).await;
    assert!(matches!(removed, Ok(MemberChange::Changed(_))), "{removed:?}");
    assert!(!fixture.is_live(id).await);
    let refused = fixture.sign_in(member, HASH).await;
    assert!(matches!(refused, Err(StoreError::SessionEnded)), "{refused:?}");
}

async fn the_oldest_session_of_a_member_ends_beyond_the_limit(fixture: Fixture) {
    let (_, member) = fixture.person("a@b").await;
    let mut ids = Vec::new();
    for _ in 0..33 {
        ids.push(fixture.sign_in(member, HASH).await.expect("sign in"));
    }
    ids.sort();
    assert!(!fixture.is_live(ids[0]).await);
    for id in &ids[1..] {
        assert!(fixture.is_live(*id).await);
    }
}

async fn of_two_owners_who_remove_each_other_at_once_one_stays(fixture: Fixture) {
    let (_, one) = fixture.person("a@b").await;
    let (_, two) = fixture.person("c@d").await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let (first, second) = tokio::join!(
        tenant.remove_member(one, NOW, audit(fixture.tenant_id)),
        tenant.set_member_role(two, Role::Admin, MemberId::new(), NOW, audit(fixture.tenant_id)),
    );
    let results = [first.expect("try"), second.expect("try")];
    let refused = results.iter().filter(|result| **result == MemberChange::LastOwner).count();
    assert_eq!(refused, 1, "{results:?}");
    let members = member::Entity::find().all(fixture.rows().await).await.expect("read");
    let owners = members.iter().filter(|row| row.role == Role::Owner && row.removed_at.is_none());
    assert_eq!(owners.count(), 1);
    // Another tenant has no such member.
    let stranger = fixture.store.tenant(muster_server::domain::ids::TenantId::new());
    for id in [one, two] {
        let removed = stranger.remove_member(id, NOW, audit(fixture.tenant_id)).await;
        assert_eq!(removed.expect("try"), MemberChange::Unknown);
    }
}

async fn of_two_new_signing_keys_one_is_stored_and_old_ones_are_deleted(fixture: Fixture) {
    let system = fixture.store.system();
    let key = |at| token_key::Model { id: TokenKeyId::new(), sealed: vec![1], created_at: at };
    let (one, two) =
        tokio::join!(system.add_token_key(key(NOW), NOW), system.add_token_key(key(NOW), NOW),);
    let (one, two) = (one.expect("add"), two.expect("add"));
    assert_eq!((one.len(), &one), (1, &two));
    let later = NOW.plus_ms(31 * DAY);
    assert_eq!(system.add_token_key(key(later), later).await.expect("add").len(), 2);
    let last = NOW.plus_ms(60 * DAY);
    let kept = system.add_token_key(key(last), last).await.expect("add");
    assert!(kept.len() == 1 && kept[0].created_at == later, "{kept:?}");
    assert_eq!(system.token_keys().await.expect("read"), kept);
}
