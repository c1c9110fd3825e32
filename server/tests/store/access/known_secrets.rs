//! Secrets of API keys that a person has known end with that person and with that key, on both databases.

use std::collections::BTreeSet;

use muster_server::domain::access::credential::SecretHash;
use muster_server::domain::access::principal::{ActorKind, Role};
use muster_server::domain::ids::{ApiKeyId, MemberId, PrincipalId, TenantId, UserId};
use muster_server::store::StoreError;
use muster_server::store::entities::access::{api_key, audit_entry, member};
use muster_server::store::queries::{ApiKeyMatch, ApiKeyRotation, MemberChange, RevocationScope};
use sea_orm::{EntityTrait as _, IntoActiveModel as _};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    no_secret_that_a_removed_member_saw_is_valid,
    no_secret_that_a_holder_of_a_revoked_key_saw_is_valid,
    a_previous_secret_manages_no_key,
);

/// A person who creates and rotates keys, with a session or with secrets that it saw.
struct Actor<'a> {
    fixture: &'a Fixture,
    tenant_id: TenantId,
    member_id: Option<MemberId>,
    /// Keys of the tenant that it may rotate.
    keys: Vec<ApiKeyId>,
    /// With the key of each.
    seen: Vec<(ApiKeyId, SecretHash)>,
    made: u8,
}

/// What it presents, and what it does: creates a key, or rotates one.
#[derive(Debug, Clone, Copy)]
struct Step {
    presented: usize,
    rotated: Option<usize>,
}

fn secret(tenant_id: TenantId, number: u8) -> SecretHash {
    SecretHash::of(&format!("{tenant_id} {number}"))
}

impl Actor<'_> {
    /// False if the step is not possible: it presents a secret that is not the present one.
    async fn take(&mut self, step: Step) -> bool {
        let sessions = usize::from(self.member_id.is_some());
        let (by, presented) = match step.presented.checked_sub(sessions) {
            None => (self.member_id.map(PrincipalId::from), None),
            Some(place) => match self.seen.get(place) {
                Some((key, hash)) => (Some((*key).into()), Some(*hash)),
                None => return false,
            },
        };
        let Some(by) = by else { return false };
        let tenant = self.fixture.store.tenant(self.tenant_id);
        let kind = if presented.is_some() { ActorKind::ApiKey } else { ActorKind::Member };
        let entry =
            audit_entry::Model { actor_kind: kind, actor_id: Some(by.0), ..audit(self.tenant_id) };
        self.made += 1;
        let hash = secret(self.tenant_id, self.made);
        let result = match step.rotated.map(|place| self.keys.get(place).copied()) {
            Some(None) => return false,
            Some(Some(id)) => {
                let rotation = ApiKeyRotation {
                    hash,
                    prefix: "mst_live_".into(),
                    by,
                    presented,
                    now: NOW,
                    previous_valid_until: NOW.plus_ms(1_000),
                };
                tenant.rotate_api_key(id, rotation, entry).await.map(|row| row.map(|row| row.id))
            }
            None => {
                let row = self.fixture.key_of(self.tenant_id, Some(by), hash);
                let id = row.id;
                tenant.create_api_key(row, presented, entry).await.map(|_| Some(id))
            }
        };
        match result {
            Ok(Some(id)) => {
                if !self.keys.contains(&id) {
                    self.keys.push(id);
                }
                self.seen.push((id, hash));
                true
            }
            Err(StoreError::PreviousSecret) => false,
            other => panic!("{step:?}: {other:?}"),
        }
    }
}

impl Fixture {
    fn key_of(
        &self,
        tenant_id: TenantId,
        created_by: Option<PrincipalId>,
        hash: SecretHash,
    ) -> api_key::Model {
        let row = self.new_api_key(&["api_keys:write"], None);
        api_key::Model { tenant_id, created_by, secret_hash: hash.0.to_vec(), ..row }
    }

    /// A key of another person, in a tenant.
    async fn key_of_another(&self, tenant_id: TenantId, number: u8) -> (ApiKeyId, SecretHash) {
        let hash = secret(tenant_id, number);
        let row = self.key_of(tenant_id, Some(PrincipalId::new()), hash);
        let id = row.id;
        let tenant = self.store.tenant(tenant_id);
        tenant.create_api_key(row, None, audit(tenant_id)).await.expect("made");
        (id, hash)
    }

    async fn member_of(&self, tenant_id: TenantId) -> MemberId {
        let row = member::Model {
            id: MemberId::new(),
            tenant_id,
            user_id: UserId::new(),
            role: Role::Admin,
            created_at: NOW,
            removed_at: None,
            removed_by: None,
            is_from_setup: false,
        };
        let id = row.id;
        let insert = member::Entity::insert(row.into_active_model());
        insert.exec_without_returning(self.rows().await).await.expect("insert");
        id
    }

    async fn is_valid(&self, hash: SecretHash) -> bool {
        match self.store.system().find_api_key(hash).await.expect("read") {
            ApiKeyMatch::Key(_) => true,
            ApiKeyMatch::Previous(row) => row.previous_valid_until.is_some_and(|at| at > NOW),
            ApiKeyMatch::Unknown => false,
        }
    }
}

/// Every chain of at most three steps. An actor starts with one credential, and sees a secret with each
/// step.
fn chains(keys: usize) -> Vec<Vec<Step>> {
    let mut chains: Vec<Vec<Step>> = vec![Vec::new()];
    let mut longest = chains.clone();
    for credentials in 1..=3_usize {
        let mut longer = Vec::new();
        for chain in &longest {
            let keys = keys + chain.iter().filter(|step| step.rotated.is_none()).count();
            for presented in 0..credentials {
                for rotated in [None].into_iter().chain((0..keys).map(Some)) {
                    let step = Step { presented, rotated };
                    longer.push(chain.iter().copied().chain([step]).collect());
                }
            }
        }
        chains.extend(longer.iter().cloned());
        longest = longer;
    }
    chains
}

/// Runs every chain, and then ends the member, or the key that the actor has.
async fn check_all(fixture: &Fixture, with_session: bool) {
    let mut possible = 0;
    let mut impossible: BTreeSet<String> = BTreeSet::new();
    for chain in chains(if with_session { 1 } else { 2 }) {
        // A chain that starts with an impossible one is impossible.
        if (1..chain.len()).any(|length| impossible.contains(&format!("{:?}", &chain[..length]))) {
            continue;
        }
        let tenant_id = TenantId::new();
        let (other, other_hash) = fixture.key_of_another(tenant_id, 200).await;
        let (untouched, untouched_hash) = fixture.key_of_another(tenant_id, 201).await;
        let mut actor = Actor {
            fixture,
            tenant_id,
            member_id: None,
            keys: vec![other],
            seen: Vec::new(),
            made: 0,
        };
        let held = fixture.key_of_another(tenant_id, 202).await;
        match with_session {
            true => actor.member_id = Some(fixture.member_of(tenant_id).await),
            false => {
                actor.seen.push(held);
                actor.keys.push(held.0);
            }
        }
        let mut is_possible = true;
        for step in &chain {
            is_possible = is_possible && actor.take(*step).await;
        }
        if !is_possible {
            impossible.insert(format!("{chain:?}"));
            continue;
        }
        possible += 1;
        let tenant = fixture.store.tenant(tenant_id);
        match actor.member_id {
            Some(id) => {
                let removed = tenant.remove_member(id, NOW, audit(tenant_id)).await;
                assert!(matches!(removed, Ok(MemberChange::Changed(_))), "{removed:?}");
            }
            None => {
                let scope = RevocationScope { is_cascade: true, cancels_queued: false };
                let revoked =
                    tenant.revoke_api_key(held.0, scope, None, NOW, audit(tenant_id)).await;
                assert!(matches!(revoked, Ok(Some(_))), "{revoked:?}");
            }
        }
        for (id, hash) in &actor.seen {
            assert!(!fixture.is_valid(*hash).await, "{chain:?}: {id} is valid");
        }
        assert!(fixture.is_valid(untouched_hash).await, "{chain:?}: {untouched} ended");
        let is_rotated = actor.seen.iter().any(|(id, _)| *id == other);
        assert!(is_rotated || fixture.is_valid(other_hash).await, "{chain:?}: {other} ended");
    }
    assert!(possible > 40, "{possible} chains");
}

async fn no_secret_that_a_removed_member_saw_is_valid(fixture: Fixture) {
    check_all(&fixture, true).await;
}

async fn no_secret_that_a_holder_of_a_revoked_key_saw_is_valid(fixture: Fixture) {
    check_all(&fixture, false).await;
}

/// Also if the key expires before the overlap ends, so that its rights do not differ.
async fn a_previous_secret_manages_no_key(fixture: Fixture) {
    let tenant_id = fixture.tenant_id;
    let (id, old) = fixture.key_of_another(tenant_id, 1).await;
    let new = secret(tenant_id, 2);
    let rotation = |hash, presented| ApiKeyRotation {
        hash,
        prefix: "mst_live_".into(),
        by: id.into(),
        presented: Some(presented),
        now: NOW,
        previous_valid_until: NOW.plus_ms(1_000),
    };
    let tenant = fixture.store.tenant(tenant_id);
    let rotate = async |number, presented| {
        let rotation = rotation(secret(tenant_id, number), presented);
        tenant.rotate_api_key(id, rotation, fixture.audit_of(id)).await
    };
    rotate(2, old).await.expect("answered").expect("a key");
    let refused = |result: Option<StoreError>| {
        assert!(matches!(result, Some(StoreError::PreviousSecret)), "{result:?}");
    };
    refused(rotate(3, old).await.err());
    let entry = || fixture.audit_of(id);
    refused(tenant.end_previous_secret(id, Some(old), NOW, entry()).await.err());
    let scope = RevocationScope::default();
    refused(tenant.revoke_api_key(id, scope, Some(old), NOW, entry()).await.err());
    let child = fixture.key_of(tenant_id, Some(id.into()), secret(tenant_id, 4));
    refused(tenant.create_api_key(child, Some(old), entry()).await.err());
    assert!(fixture.is_valid(new).await && fixture.is_valid(old).await, "nothing was changed");
    rotate(3, new).await.expect("answered").expect("a key");
}
