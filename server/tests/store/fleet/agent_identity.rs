//! Which agent a host is: its key pair, reinstalled hosts, alerts and adoption.

use muster_protocol::CloseCode;
use muster_server::domain::fleet::agent::AgentEventKind;
use muster_server::domain::ids::{AgentKeyId, TenantId};
use muster_server::domain::page::PageRequest;
use muster_server::store::queries::{Adopted, Adoption, AgentKeyChange, Deletion};
use muster_server::store::writer::{AgentIdentity, OpenSession};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, public_key};
use crate::fleet::sessions::{close, opened, refused, returning};
use crate::on_both_databases;

on_both_databases!(
    an_id_or_a_machine_without_its_key_pair_is_another_agent,
    a_key_that_trusts_its_holders_lets_a_reinstall_take_its_offline_row,
    a_refused_reinstall_raises_one_alert_on_the_former_agent,
    an_alert_about_a_key_pair_outlives_lesser_ones_and_the_agent_that_caused_it,
    an_adopted_agent_keeps_its_id_and_its_successor_goes,
    an_accepted_fingerprint_waits_for_its_host_and_ends_when_the_agent_returns,
    an_agent_keeps_its_id_with_another_key_of_its_tenant_and_only_with_its_key_pair,
    a_key_pair_is_known_only_with_its_agent_key_in_its_tenant_and_until_its_agent_is_deleted,
);

async fn an_id_or_a_machine_without_its_key_pair_is_another_agent(fixture: Fixture) {
    let first = fixture.agent("host").await;
    for is_online in [true, false] {
        if !is_online {
            close(&fixture, &first).await;
        }
        let mut thief = fixture.registration_with("host", "thief");
        returning(&mut thief, &first);
        let stolen = opened(fixture.open(thief).await);
        assert_ne!(stolen.agent_id, first.agent_id, "online: {is_online}");
        let tenant = fixture.store.tenant(fixture.tenant_id);
        let row = tenant.agent(stolen.agent_id).await.expect("read").expect("the agent");
        assert_eq!(row.alert.as_deref(), Some("key_pair_changed"));
        let detail = row.alert_detail.expect("a sentence");
        let fingerprint = public_key("thief").fingerprint().to_string();
        for word in [&first.agent_id.to_string(), &fingerprint, "muster agents adopt"] {
            assert!(detail.contains(word), "{detail}");
        }
    }
    // The host itself is not locked out.
    assert_eq!(fixture.agent("host").await.agent_id, first.agent_id);
}

async fn a_key_that_trusts_its_holders_lets_a_reinstall_take_its_offline_row(fixture: Fixture) {
    fixture.trust_holders().await;
    let first = fixture.agent("host").await;
    let beside = opened(fixture.open(fixture.registration_with("host", "second")).await);
    assert_ne!(beside.agent_id, first.agent_id, "an online agent is not taken over");
    close(&fixture, &first).await;
    let third = opened(fixture.open(fixture.registration_with("host", "third")).await);
    assert_eq!(third.agent_id, first.agent_id);
    // From now on the row belongs to the new key pair.
    close(&fixture, &third).await;
    close(&fixture, &beside).await;
    let again = opened(fixture.open(fixture.registration_with("host", "third")).await);
    assert_eq!(again.agent_id, first.agent_id);
}

async fn a_refused_reinstall_raises_one_alert_on_the_former_agent(fixture: Fixture) {
    for name in ["host", "second", "third"] {
        let session = fixture.agent(name).await;
        close(&fixture, &session).await;
    }
    let first = fixture.agent("host").await;
    close(&fixture, &first).await;
    for seed in ["new", "new", "newer"] {
        let opening = fixture.open(fixture.registration_with("host", seed)).await;
        assert_eq!(refused(opening), CloseCode::AgentLimit);
    }
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = tenant.agent(first.agent_id).await.expect("read").expect("the agent");
    assert_eq!(row.alert.as_deref(), Some("key_pair_changed"));
    let newest = public_key("newer").fingerprint().to_string();
    assert!(row.alert_detail.is_some_and(|detail| detail.contains(&newest)));
    let page = PageRequest { after: None, limit: 50 };
    let events = tenant.agent_events(first.agent_id, page).await.expect("read");
    let raised = events.iter().filter(|event| event.kind == AgentEventKind::KeyPairChanged);
    assert_eq!(raised.count(), 1, "an agent that keeps trying writes no event each time");
}

async fn an_alert_about_a_key_pair_outlives_lesser_ones_and_the_agent_that_caused_it(
    fixture: Fixture,
) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = async |id| tenant.agent(id).await.expect("read").expect("the agent");
    let fingerprint = public_key("thief").fingerprint().to_string();
    let is_reported = async |id| {
        let row = row(id).await;
        let detail = row.alert_detail.unwrap_or_default();
        row.alert.as_deref() == Some("key_pair_changed") && detail.contains(&fingerprint)
    };
    let host = fixture.agent("host").await;
    let as_thief = |hostname: &str, machine: &str| {
        let registration = fixture.registration_with(machine, "thief");
        OpenSession { hostname: hostname.into(), ..registration }
    };
    let thief = opened(fixture.open(as_thief("lab", "host")).await);
    assert!(is_reported(thief.agent_id).await);
    assert!(is_reported(host.agent_id).await, "the former agent shows it as well");
    // The name of another agent, a second process, and another machine id.
    for (hostname, machine, instance) in [("host", "host", 2), ("host", "host", 1), ("x", "x", 2)] {
        let mut again = as_thief(hostname, machine);
        if let AgentIdentity::Full { instance_id, .. } = &mut again.identity {
            *instance_id = Uuid::from_u128(instance);
        }
        fixture.open(again).await;
        assert!(is_reported(thief.agent_id).await, "{hostname} {machine} {instance}");
    }
    let entry = crate::fixture::audit(fixture.tenant_id);
    tenant.delete_agent(thief.agent_id, Deletion::Operator, NOW, entry).await.expect("delete");
    assert_eq!(row(host.agent_id).await.alert.as_deref(), Some("key_pair_changed"));
}

async fn an_adopted_agent_keeps_its_id_and_its_successor_goes(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let audit = || crate::fixture::audit(fixture.tenant_id);
    let first = fixture.agent("host").await;
    let second = opened(fixture.open(fixture.registration_with("host", "new")).await);
    let adoption = Adoption {
        id: first.agent_id,
        fingerprint: public_key("new").fingerprint(),
        successor: Some(second.agent_id),
        now: NOW,
    };
    let online = tenant.adopt_agent(adoption, audit()).await.expect("asked");
    assert!(matches!(online, Adopted::Online), "{online:?}");
    close(&fixture, &first).await;
    let wrong = Adoption { fingerprint: public_key("other").fingerprint(), ..adoption };
    let wrong = tenant.adopt_agent(wrong, audit()).await.expect("asked");
    assert!(matches!(wrong, Adopted::SuccessorChanged), "{wrong:?}");
    let done = tenant.adopt_agent(adoption, audit()).await.expect("asked");
    assert!(matches!(done, Adopted::Done { .. }), "{done:?}");
    assert!(tenant.agent(second.agent_id).await.expect("read").is_none());
    let mut again = fixture.registration_with("host", "new");
    returning(&mut again, &second);
    assert_eq!(opened(fixture.open(again).await).agent_id, first.agent_id);
    // The former key pair belongs to no agent.
    assert_ne!(fixture.agent("host").await.agent_id, first.agent_id);
}

async fn an_accepted_fingerprint_waits_for_its_host_and_ends_when_the_agent_returns(
    fixture: Fixture,
) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let first = fixture.agent("host").await;
    let accept = async || {
        let adoption = Adoption {
            id: first.agent_id,
            fingerprint: public_key("new").fingerprint(),
            successor: None,
            now: NOW,
        };
        let audit = crate::fixture::audit(fixture.tenant_id);
        let done = tenant.adopt_agent(adoption, audit).await.expect("asked");
        assert!(matches!(done, Adopted::Done { .. }), "{done:?}");
    };
    close(&fixture, &first).await;
    accept().await;
    // The agent itself comes back: what was accepted does not count any more.
    let back = fixture.agent("host").await;
    assert_eq!(back.agent_id, first.agent_id);
    close(&fixture, &back).await;
    let other = opened(fixture.open(fixture.registration_with("elsewhere", "new")).await);
    assert_ne!(other.agent_id, first.agent_id);
    tenant
        .delete_agent(
            other.agent_id,
            Deletion::Operator,
            NOW,
            crate::fixture::audit(fixture.tenant_id),
        )
        .await
        .expect("delete");
    accept().await;
    let taken = opened(fixture.open(fixture.registration_with("elsewhere", "new")).await);
    assert_eq!(taken.agent_id, first.agent_id);
}

/// The look-up that gives known agents a place when the connections of their key are exhausted.
async fn an_agent_keeps_its_id_with_another_key_of_its_tenant_and_only_with_its_key_pair(
    fixture: Fixture,
) {
    let first = fixture.agent("host").await;
    close(&fixture, &first).await;
    let [other, spare, stranger] = [(); 3].map(|()| AgentKeyId::new());
    fixture.make_key(fixture.tenant_id, other, 1).await;
    fixture.make_key(fixture.tenant_id, spare, 3).await;
    let tenant = TenantId::new();
    fixture.make_key(tenant, stranger, 3).await;
    let with = |tenant_id: TenantId, key_id: AgentKeyId, key_pair: &str| {
        let mut registration = fixture.registration_with("host", key_pair);
        returning(&mut registration, &first);
        let secret_hash = key_id.0.as_bytes().to_vec();
        OpenSession { tenant_id, key_id, secret_hash, ..registration }
    };
    // The id alone, and the key pair in another tenant, are not the agent.
    let thief = opened(fixture.open(with(tenant, stranger, "host")).await);
    assert_ne!(thief.agent_id, first.agent_id);
    for key_id in [fixture.key_id, spare] {
        let stolen = opened(fixture.open(with(fixture.tenant_id, key_id, "thief")).await);
        assert_ne!(stolen.agent_id, first.agent_id);
        close(&fixture, &stolen).await;
    }

    let moved = opened(fixture.open(with(fixture.tenant_id, other, "host")).await);
    assert_eq!(moved.agent_id, first.agent_id);
    let scope = fixture.store.tenant(fixture.tenant_id);
    let row = scope.agent(first.agent_id).await.expect("read").expect("the agent");
    assert_eq!(row.key_id, other);
    let page = PageRequest { after: None, limit: 50 };
    let events = scope.agent_events(first.agent_id, page).await.expect("read");
    assert!(events.iter().any(|event| event.kind == AgentEventKind::AgentKeyChanged));
    // The key has room for one agent, and it is there.
    close(&fixture, &moved).await;
    let again = opened(fixture.open(with(fixture.tenant_id, other, "host")).await);
    assert_eq!(again.agent_id, first.agent_id);
    let second = fixture.agent("second").await;
    let mut full = fixture.registration_with("second", "second");
    returning(&mut full, &second);
    let (key_id, secret_hash) = (other, other.0.as_bytes().to_vec());
    let full = OpenSession { key_id, secret_hash, ..full };
    assert_eq!(refused(fixture.open(full).await), CloseCode::AgentLimit);
    let row = scope.agent(second.agent_id).await.expect("read").expect("the agent");
    assert_eq!(row.key_id, fixture.key_id, "a refused move changes nothing");

    // A disabled key keeps its agents away, with their names and tags.
    close(&fixture, &again).await;
    let change = AgentKeyChange { is_disabled: Some(true), ..AgentKeyChange::default() };
    let audit = crate::fixture::audit(fixture.tenant_id);
    scope.update_agent_key(other, change, audit).await.expect("change").expect("the key");
    let back = opened(fixture.open(with(fixture.tenant_id, fixture.key_id, "host")).await);
    assert_ne!(back.agent_id, first.agent_id);
}

async fn a_key_pair_is_known_only_with_its_agent_key_in_its_tenant_and_until_its_agent_is_deleted(
    fixture: Fixture,
) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let is_known = async |key_pair: &str| {
        let known = tenant.is_key_pair_of_agent(fixture.key_id, public_key(key_pair)).await;
        known.expect("asked")
    };
    let session = fixture.agent("host").await;
    assert!(is_known("host").await && !is_known("stranger").await);
    let other_key = tenant.is_key_pair_of_agent(AgentKeyId::new(), public_key("host")).await;
    assert!(!other_key.expect("asked"), "the place belongs to agents of this key");
    let stranger = fixture.store.tenant(TenantId::new());
    let found = stranger.is_key_pair_of_agent(fixture.key_id, public_key("host")).await;
    assert!(!found.expect("asked"), "another tenant's agent is not known here");

    // One that a person accepted has a place before it has an agent.
    close(&fixture, &session).await;
    let adoption = Adoption {
        id: session.agent_id,
        fingerprint: public_key("reinstalled").fingerprint(),
        successor: None,
        now: NOW,
    };
    let audit = || crate::fixture::audit(fixture.tenant_id);
    tenant.adopt_agent(adoption, audit()).await.expect("asked");
    assert!(is_known("reinstalled").await && is_known("host").await);

    let gone = session.agent_id;
    tenant.delete_agent(gone, Deletion::Operator, NOW, audit()).await.expect("delete");
    assert!(!is_known("host").await && !is_known("reinstalled").await);
}
