//! Owners that are made once, and members whose work and sessions end, on both databases.

use muster_server::domain::access::credential::SecretHash;
use muster_server::domain::access::principal::{ActorKind, Role};
use muster_server::domain::ids::{MemberId, PrincipalId, SessionId, TenantId, UserId};
use muster_server::store::StoreError;
use muster_server::store::entities::access::{audit_entry, member, user, user_session};
use muster_server::store::queries::{NewOwner, SetupResult, SetupState};
use muster_server::store::writer::{SubmitCommand, Submitted};
use sea_orm::{EntityTrait as _, IntoActiveModel as _, Set};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_set_up_token_makes_one_owner_and_closes_set_up_for_good,
    of_two_who_use_the_set_up_token_at_once_one_becomes_an_owner,
    an_owner_made_at_the_terminal_closes_set_up_and_signs_a_known_person_out,
    work_of_a_member_who_was_removed_or_runs_nothing_any_more_is_refused,
    a_change_of_a_session_that_ended_is_not_stored,
);

const TOKEN: SecretHash = SecretHash([7; 32]);

fn owner(tenant_id: TenantId, email: &str) -> NewOwner {
    let user = user::Model {
        id: UserId::new(),
        email: email.into(),
        name: "A person".into(),
        password_hash: format!("hash of {email}"),
        created_at: NOW,
    };
    let member = member::Model {
        id: MemberId::new(),
        tenant_id,
        user_id: user.id,
        role: Role::Owner,
        created_at: NOW,
        removed_at: None,
        removed_by: None,
        is_from_setup: true,
    };
    NewOwner { user, member, audit: audit(tenant_id) }
}

impl Fixture {
    async fn members(&self) -> Vec<member::Model> {
        member::Entity::find().all(self.rows().await).await.expect("read")
    }

    async fn session_of(&self, member_id: MemberId) -> SessionId {
        let row = user_session::Model {
            id: SessionId::new(),
            tenant_id: self.tenant_id,
            member_id,
            created_at: NOW,
            refreshed_at: NOW,
            expires_at: NOW.plus_ms(1_000),
            confirmed_at: NOW,
            confirmed_by_passkey: false,
            refresh_hash: Vec::new(),
            previous_refresh_hash: None,
            revoked_at: None,
            source: None,
        };
        let id = row.id;
        let insert = user_session::Entity::insert(row.into_active_model());
        insert.exec_without_returning(self.rows().await).await.expect("insert");
        id
    }

    async fn is_revoked(&self, id: SessionId) -> bool {
        let row = user_session::Entity::find_by_id(id).one(self.rows().await).await.expect("read");
        row.expect("the session").revoked_at.is_some()
    }

    async fn change_member(&self, change: member::ActiveModel) {
        member::Entity::update(change).exec(self.rows().await).await.expect("update");
    }

    /// A change that a member requests in a session.
    async fn change_of(
        &self,
        member_id: MemberId,
        session_id: SessionId,
    ) -> Result<bool, StoreError> {
        let entry = audit_entry::Model {
            actor_kind: ActorKind::Member,
            actor_id: Some(member_id.0),
            session_id: Some(session_id),
            ..audit(self.tenant_id)
        };
        self.store.tenant(self.tenant_id).delete_agent_key(self.key_id, NOW, entry).await
    }
}

async fn a_set_up_token_makes_one_owner_and_closes_set_up_for_good(fixture: Fixture) {
    let (system, tenant_id) = (fixture.store.system(), fixture.tenant_id);
    let set_up = async |token, email| {
        system.set_up_owner(token, owner(tenant_id, email)).await.expect("try")
    };
    assert_eq!(set_up(TOKEN, "a@b").await, SetupResult::Closed, "never opened");
    assert!(system.open_setup(tenant_id, TOKEN).await.expect("open"));
    assert_eq!(set_up(SecretHash([8; 32]), "a@b").await, SetupResult::WrongToken);
    assert_eq!(set_up(TOKEN, "a@b").await, SetupResult::Created);
    assert_eq!(set_up(TOKEN, "c@d").await, SetupResult::Closed);
    assert_eq!(system.setup_state().await.expect("read"), SetupState::Closed);
    // Also after its owner is gone.
    let id = fixture.members().await[0].id;
    let removed_at = Set(Some(NOW));
    fixture
        .change_member(member::ActiveModel { id: Set(id), removed_at, ..Default::default() })
        .await;
    assert!(!system.open_setup(tenant_id, TOKEN).await.expect("open"));
    assert_eq!(set_up(TOKEN, "c@d").await, SetupResult::Closed);
}

async fn of_two_who_use_the_set_up_token_at_once_one_becomes_an_owner(fixture: Fixture) {
    let system = fixture.store.system();
    assert!(system.open_setup(fixture.tenant_id, TOKEN).await.expect("open"));
    let one = system.set_up_owner(TOKEN, owner(fixture.tenant_id, "a@b"));
    let other = system.set_up_owner(TOKEN, owner(fixture.tenant_id, "c@d"));
    let (one, other) = tokio::join!(one, other);
    let results = [one.expect("try"), other.expect("try")];
    assert!(results.contains(&SetupResult::Created) && results.contains(&SetupResult::Closed));
    assert_eq!(fixture.members().await.len(), 1);
}

async fn an_owner_made_at_the_terminal_closes_set_up_and_signs_a_known_person_out(
    fixture: Fixture,
) {
    let (system, tenant_id) = (fixture.store.system(), fixture.tenant_id);
    assert!(system.open_setup(tenant_id, TOKEN).await.expect("open"));
    let (first, _) = system.create_owner(owner(tenant_id, "a@b"), NOW).await.expect("create");
    let set_up = system.set_up_owner(TOKEN, owner(tenant_id, "c@d")).await.expect("try");
    assert_eq!(set_up, SetupResult::Closed);
    let session = fixture.session_of(first).await;
    let role = Set(Role::Member);
    fixture.change_member(member::ActiveModel { id: Set(first), role, ..Default::default() }).await;

    let mut again = owner(tenant_id, "a@b");
    again.user.password_hash = "another".into();
    assert_eq!(system.create_owner(again, NOW).await.expect("create").0, first);
    let members = fixture.members().await;
    assert_eq!((members.len(), members[0].role), (1, Role::Owner));
    assert!(fixture.is_revoked(session).await);
    let users = user::Entity::find().all(fixture.rows().await).await.expect("read");
    assert_eq!((users.len(), users[0].password_hash.as_str()), (1, "another"));
    // A person who was removed becomes another member.
    let removed_at = Set(Some(NOW));
    let id = Set(first);
    fixture.change_member(member::ActiveModel { id, removed_at, ..Default::default() }).await;
    let (new, _) = system.create_owner(owner(tenant_id, "a@b"), NOW).await.expect("create");
    assert_ne!(new, first);
}

async fn work_of_a_member_who_was_removed_or_runs_nothing_any_more_is_refused(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let system = fixture.store.system();
    let (id, _) = system.create_owner(owner(fixture.tenant_id, "a@b"), NOW).await.expect("create");
    let submit = async || {
        let mut submission: SubmitCommand = fixture.submission(session.agent_id);
        submission.row.requested_by = id.into();
        fixture.store.writer().commit(submission).await.expect("submit")
    };
    let invalid = async || {
        let ids = [PrincipalId::from(id), PrincipalId::OPERATOR].into();
        system.invalid_requesters(ids, NOW).await.expect("read").into_iter().collect::<Vec<_>>()
    };
    assert_eq!(submit().await, Submitted::New { delivered: false });
    assert!(invalid().await.is_empty());
    let with_role =
        |role| member::ActiveModel { id: Set(id), role: Set(role), ..Default::default() };
    fixture.change_member(with_role(Role::Auditor)).await;
    assert_eq!(submit().await, Submitted::KeyInvalid);
    fixture.change_member(with_role(Role::Member)).await;
    assert_eq!(submit().await, Submitted::New { delivered: false });
    let removed_at = Set(Some(NOW));
    let removed = member::ActiveModel { id: Set(id), removed_at, ..Default::default() };
    fixture.change_member(removed).await;
    assert_eq!(submit().await, Submitted::KeyInvalid);
    assert_eq!(invalid().await, [PrincipalId::from(id)]);
}

async fn a_change_of_a_session_that_ended_is_not_stored(fixture: Fixture) {
    let system = fixture.store.system();
    let (id, _) = system.create_owner(owner(fixture.tenant_id, "a@b"), NOW).await.expect("create");
    let (revoked, unknown) = (fixture.session_of(id).await, SessionId::new());
    let change = user_session::ActiveModel {
        id: Set(revoked),
        revoked_at: Set(Some(NOW)),
        ..Default::default()
    };
    user_session::Entity::update(change).exec(fixture.rows().await).await.expect("update");
    for session in [revoked, unknown] {
        let changed = fixture.change_of(id, session).await;
        assert!(matches!(changed, Err(StoreError::SessionEnded)), "{changed:?}");
    }
    let session = fixture.session_of(id).await;
    assert!(fixture.change_of(id, session).await.expect("change"));
}
