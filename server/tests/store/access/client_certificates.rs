//! Certificates of clients: who gets one, what they are worth, and which ones are reported.

use muster_server::domain::certificates::client_certificate::{
    CertificateHolder, CertificateState, ClientCertificateRecord, KeyHash,
};
use muster_server::domain::ids::{CertificateId, TenantId};
use muster_server::domain::integrations::event_type::EventType;
use muster_server::domain::page::PageRequest;
use muster_server::domain::time::Timestamp;
use muster_server::store::StoreError;
use muster_server::store::entities::certificates::client_certificate;
use muster_server::store::queries::{CallerCertificate, OwnCertificate};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    certificate_of_an_agent_is_stored_only_by_its_newest_session,
    holder_of_a_certificate_gets_another_one_only_if_it_shows_the_first,
    states_in_the_database_are_those_of_the_domain,
    certificate_of_another_tenant_is_neither_found_nor_revoked,
    certificate_that_was_not_renewed_is_reported_once,
    certificates_of_the_server_are_reported_to_the_operator_once,
);

const DAY_MS: u64 = 86_400_000;
const ALL: PageRequest = PageRequest { after: None, limit: 100 };

fn key(number: u8) -> KeyHash {
    KeyHash::from_bytes([number; 32])
}

fn row(fixture: &Fixture, holder: CertificateHolder, number: u8) -> client_certificate::Model {
    client_certificate::Model {
        id: CertificateId::new(),
        tenant_id: fixture.tenant_id,
        holder,
        holder_id: Uuid::from_u128(7),
        key_hash: key(number).as_bytes().to_vec(),
        issued_at: NOW,
        expires_at: NOW.plus_ms(holder.lifetime_ms()),
        revoked_at: None,
        next_until: None,
    }
}

async fn certificate_of_an_agent_is_stored_only_by_its_newest_session(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let session = fixture.agent("one").await;
    let store = async |epoch: i64, number: u8| {
        let row = client_certificate::Model {
            holder_id: session.agent_id.0,
            ..row(&fixture, CertificateHolder::Agent, number)
        };
        tenant.store_agent_certificate(session.agent_id, epoch, row).await
    };
    let stale = store(session.epoch - 1, 1).await;
    assert!(matches!(stale, Err(StoreError::StaleEpoch)), "{stale:?}");
    store(session.epoch, 1).await.expect("stored");
    let first = tenant.certificate_of_key(key(1)).await.expect("read").expect("the first");
    // Another key pair of the same agent takes its place.
    store(session.epoch, 2).await.expect("stored");
    assert_eq!(tenant.certificate_of_key(key(1)).await.expect("read"), None);
    // A renewal keeps id and revocation.
    let second = tenant.certificate_of_key(key(2)).await.expect("read").expect("the second");
    assert_ne!(second.id, first.id);
    tenant
        .revoke_certificate(second.id, NOW, None, audit(fixture.tenant_id))
        .await
        .expect("revoked");
    store(session.epoch, 2).await.expect("stored");
    let again = tenant.certificate_of_key(key(2)).await.expect("read").expect("the second");
    assert_eq!((again.id, again.revoked_at), (second.id, Some(NOW)));
}

async fn holder_of_a_certificate_gets_another_one_only_if_it_shows_the_first(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let store = async |number: u8, shown: Option<u8>, at: Timestamp| {
        let row = client_certificate::Model {
            issued_at: at,
            expires_at: at.plus_ms(90 * DAY_MS),
            ..row(&fixture, CertificateHolder::ApiKey, number)
        };
        let shown = shown.map(key);
        tenant
            .store_caller_certificate(row, shown, audit(fixture.tenant_id))
            .await
            .expect("an answer")
    };
    assert_eq!(store(1, None, NOW).await, CallerCertificate::Stored);
    assert_eq!(store(2, None, NOW).await, CallerCertificate::NotShown);
    assert_eq!(store(2, Some(9), NOW).await, CallerCertificate::NotShown);
    assert_eq!(store(2, Some(1), NOW).await, CallerCertificate::Stored);
    for number in 3..=10 {
        assert_eq!(store(number, Some(1), NOW).await, CallerCertificate::Stored);
    }
    assert_eq!(store(11, Some(1), NOW).await, CallerCertificate::TooMany);
    // After all have expired, the key alone is not enough, and neither is one that has expired.
    let later = NOW.plus_ms(91 * DAY_MS);
    assert_eq!(store(11, None, later).await, CallerCertificate::NotShown);
    assert_eq!(store(11, Some(1), later).await, CallerCertificate::NotShown);
    let last = tenant.certificate_of_key(key(10)).await.expect("read").expect("the tenth").id;
    let revoke = async |next_until: Option<Timestamp>| {
        let audit = audit(fixture.tenant_id);
        tenant.revoke_certificate(last, later, next_until, audit).await.expect("revoked");
    };
    revoke(None).await;
    assert_eq!(store(11, None, later).await, CallerCertificate::NotShown);
    // A permission counts for one certificate, and not for ever.
    revoke(Some(later.plus_ms(DAY_MS))).await;
    revoke(None).await;
    assert_eq!(store(11, None, later.plus_ms(DAY_MS)).await, CallerCertificate::NotShown);
    assert_eq!(store(11, None, later).await, CallerCertificate::Stored);
    assert_eq!(store(12, None, later).await, CallerCertificate::NotShown);
    assert_eq!(store(12, Some(11), later).await, CallerCertificate::Stored);
    let other = client_certificate::Model {
        holder_id: Uuid::from_u128(8),
        ..row(&fixture, CertificateHolder::Member, 11)
    };
    let taken = tenant.store_caller_certificate(other, None, audit(fixture.tenant_id)).await;
    assert_eq!(taken.expect("an answer"), CallerCertificate::KeyTaken);
}

async fn states_in_the_database_are_those_of_the_domain(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let mut stored = Vec::new();
    for (number, days) in (1..).zip([0, 6, 7, 8, 9, 10, 11, 29, 30, 31, 89]) {
        for holder in [CertificateHolder::ApiKey, CertificateHolder::Agent] {
            // No certificate of an agent is valid for so long.
            if holder == CertificateHolder::Agent && days > 31 {
                continue;
            }
            let number = if holder == CertificateHolder::Agent { number + 100 } else { number };
            let row = client_certificate::Model {
                holder_id: Uuid::new_v4(),
                expires_at: NOW.plus_ms(days * DAY_MS),
                ..row(&fixture, holder, number)
            };
            let audit = audit(fixture.tenant_id);
            tenant.store_caller_certificate(row.clone(), None, audit).await.expect("stored");
            stored.push(ClientCertificateRecord::from(row));
        }
    }
    let revoked = stored[5].id;
    tenant.revoke_certificate(revoked, NOW, None, audit(fixture.tenant_id)).await.expect("revoked");
    stored[5].revoked_at = Some(NOW);
    for state in [
        CertificateState::Valid,
        CertificateState::Due,
        CertificateState::Expiring,
        CertificateState::Expired,
        CertificateState::Revoked,
    ] {
        let rows = tenant.certificates(Some(state), NOW, ALL).await.expect("a page");
        let mut found: Vec<_> = rows.iter().map(|row| row.id.0).collect();
        let expected = stored.iter().filter(|record| record.state(NOW) == state);
        let mut expected: Vec<_> = expected.map(|record| record.id.0).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{state:?}");
        assert!(!found.is_empty(), "{state:?}");
        let count = tenant.count_certificates(state, NOW).await.expect("a number");
        assert_eq!(usize::try_from(count).expect("small"), found.len());
    }
}

async fn certificate_of_another_tenant_is_neither_found_nor_revoked(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = row(&fixture, CertificateHolder::ApiKey, 1);
    let made = tenant.store_caller_certificate(row.clone(), None, audit(fixture.tenant_id)).await;
    assert_eq!(made.expect("an answer"), CallerCertificate::Stored);
    let stranger = fixture.store.tenant(TenantId::new());
    assert_eq!(stranger.certificate_of_key(key(1)).await.expect("read"), None);
    assert_eq!(stranger.certificates(None, NOW, ALL).await.expect("read"), []);
    let revoked = stranger.revoke_certificate(row.id, NOW, None, audit(fixture.tenant_id)).await;
    assert_eq!(revoked.expect("an answer"), None);
    let kept = tenant.certificate_of_key(key(1)).await.expect("read").expect("the row");
    assert_eq!(kept.revoked_at, None);
}

async fn certificate_that_was_not_renewed_is_reported_once(fixture: Fixture) {
    let sent = fixture.integration(&[EventType::CertificateExpiring]).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = row(&fixture, CertificateHolder::Member, 1);
    tenant.store_caller_certificate(row, None, audit(fixture.tenant_id)).await.expect("stored");
    let system = fixture.store.system();
    let report = async |days: u64| {
        system.report_expiring_certificates(NOW.plus_ms(days * DAY_MS)).await.expect("report")
    };
    assert_eq!(report(82).await, 0, "more than a week before");
    let (one, other) = tokio::join!(report(84), report(84));
    assert_eq!(one + other, 1, "two servers report it once");
    assert_eq!(report(85).await, 0);
    assert_eq!(report(91).await, 0, "it has expired");
    assert_eq!(fixture.sent(sent).await, ["certificate.expiring"]);
}

async fn certificates_of_the_server_are_reported_to_the_operator_once(fixture: Fixture) {
    fixture.make_tenant().await;
    let sent = fixture.integration(&[EventType::CertificateExpiring]).await;
    let system = fixture.store.system();
    let ends_at = NOW.plus_ms(90 * DAY_MS);
    let report = async |certificate: OwnCertificate, days: u64| {
        let now = NOW.plus_ms(days * DAY_MS);
        system.report_own_certificate(certificate, ends_at, now).await.expect("report")
    };
    assert!(!report(OwnCertificate::Server, 82).await, "more than a week before");
    let (one, other) =
        tokio::join!(report(OwnCertificate::Server, 84), report(OwnCertificate::Server, 84));
    assert!(one ^ other, "two servers report it once");
    assert!(report(OwnCertificate::Authority, 84).await);
    assert_eq!(fixture.sent(sent).await, ["certificate.expiring", "certificate.expiring"]);
}
