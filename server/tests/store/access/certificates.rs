//! The server's certificate authority, from one start of a server to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::future::join_all;
use muster_server::domain::certificates::rollover::{RolloverAction, RolloverState};
use muster_server::domain::certificates::validity::{BACKDATED_MS, SERVER_CERTIFICATE_MS};
use muster_server::domain::operations::master_key::MasterKey;
use muster_server::domain::secret_box::SecretBox;
use muster_server::domain::time::{Clock, Timestamp};
use muster_server::services::certificates::authority::{AuthorityError, ServerAuthority};
use muster_server::store::queries::AuthorityChange;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    processes_that_start_together_make_one_certificate_authority,
    a_certificate_authority_opens_only_with_its_master_key_and_unchanged,
    processes_take_each_step_of_a_rollover_once,
);

fn secret_box() -> SecretBox {
    SecretBox::new(&MasterKey::random().expect("randomness")).expect("a box")
}

async fn load(
    fixture: &Fixture,
    secret_box: &SecretBox,
) -> Result<ServerAuthority, AuthorityError> {
    let clock = Clock::from_fn(|| NOW);
    ServerAuthority::load(&fixture.store, secret_box, &clock, vec![]).await
}

async fn processes_that_start_together_make_one_certificate_authority(fixture: Fixture) {
    let secret_box = secret_box();
    let loaded = join_all((0..8).map(|_| load(&fixture, &secret_box))).await;
    let authorities: Vec<_> = loaded.into_iter().map(|one| one.expect("an authority")).collect();
    let again = load(&fixture, &secret_box).await.expect("the same authority");
    for authority in &authorities {
        assert_eq!(authority.certificate_pem(), again.certificate_pem());
        assert_eq!(authority.pin(), again.pin());
    }
}

async fn a_certificate_authority_opens_only_with_its_master_key_and_unchanged(fixture: Fixture) {
    const SETTING: &str = "certificate_authority";
    let key = secret_box();
    let made = load(&fixture, &key).await.expect("an authority");
    let other = load(&fixture, &secret_box()).await.expect_err("another key");
    assert!(matches!(other, AuthorityError::Changed(_)), "{other}");

    let system = fixture.store.system();
    let mut sealed = system.setting(SETTING).await.expect("read").expect("stored");
    let issued = made.issue_server_certificate().expect("a certificate");
    let is_plain = sealed.windows(32).any(|part| issued.key.windows(32).any(|key| key == part));
    assert!(!is_plain, "the key of the server is stored in the clear");
    *sealed.last_mut().expect("bytes") ^= 1;
    system.replace_settings(vec![(SETTING, Some(sealed))]).await.expect("changed");
    let changed = load(&fixture, &key).await.expect_err("a changed record");
    assert!(matches!(changed, AuthorityError::Changed(_)), "{changed}");
}

async fn processes_take_each_step_of_a_rollover_once(fixture: Fixture) {
    let secret_box = secret_box();
    let (one, other) = (load(&fixture, &secret_box).await, load(&fixture, &secret_box).await);
    let (one, other) = (one.expect("an authority"), other.expect("the same one"));
    let change = || AuthorityChange { end_certificates: None, audit: audit(fixture.tenant_id) };
    let pin = one.pin();
    for (action, state) in [
        (RolloverAction::Announce, RolloverState::Announced),
        (RolloverAction::Switch, RolloverState::Switched),
        (RolloverAction::Retire, RolloverState::None),
    ] {
        let before = one.client_authorities_pem();
        let (first, second) =
            tokio::join!(one.step(action, change()), other.step(action, change()));
        let taken = [first.expect("stored or not"), second.expect("stored or not")];
        assert_eq!(taken.iter().filter(|is_taken| **is_taken).count(), 1, "{action:?}");
        for process in [&one, &other] {
            process.reload().await.expect("read");
            assert_eq!(process.status().rollover, state);
            assert_eq!(process.pin(), pin);
        }
        assert_eq!(one.client_authorities_pem(), other.client_authorities_pem());
        assert_ne!(one.client_authorities_pem(), before);
    }
    let again = load(&fixture, &secret_box).await.expect("the next authority");
    assert_eq!(again.certificate_pem(), one.certificate_pem());
    assert!(!again.reload().await.expect("read"));
}

#[tokio::test]
async fn a_certificate_of_the_server_is_due_at_two_thirds_and_after_its_clock_was_set_back() {
    let fixture = Fixture::sqlite().await;
    let now = Arc::new(AtomicI64::new(NOW.0));
    let seen = Arc::clone(&now);
    let clock = Clock::from_fn(move || Timestamp(seen.load(Ordering::Relaxed)));
    let secret_box = secret_box();
    let authority = ServerAuthority::load(&fixture.store, &secret_box, &clock, vec![]);
    let authority = authority.await.expect("an authority");
    let issued = authority.issue_server_certificate().expect("a certificate");
    let is_due_after = |ms: i64| {
        now.store(NOW.0 + ms, Ordering::Relaxed);
        authority.is_due(&issued.validity)
    };
    let renewal = i64::try_from(SERVER_CERTIFICATE_MS / 3 * 2).expect("small");
    let backdated = i64::try_from(BACKDATED_MS).expect("small");
    assert!(!is_due_after(0) && !is_due_after(renewal - 1) && is_due_after(renewal));
    assert!(!is_due_after(-backdated) && is_due_after(-backdated - 1));
    // The renewed one is for the same key, and is another certificate.
    let renewed = authority.issue_server_certificate().expect("a certificate");
    assert_eq!(renewed.key, issued.key);
    assert_ne!(renewed.certificate, issued.certificate);
    assert!(!authority.is_due(&renewed.validity));
}
