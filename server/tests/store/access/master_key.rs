//! The master key, from one start of a server to the next.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use muster_server::domain::ids::TenantId;
use muster_server::domain::operations::master_key::MasterKey;
use muster_server::services::operations::master_key::{KeyLocations, UnlockError, unlock};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::fixture::Fixture;
use crate::on_both_databases;

on_both_databases!(
    a_master_key_is_created_once_with_mode_0600_and_found_again,
    a_lost_master_key_is_not_recreated_and_another_key_is_refused,
    a_configured_key_or_key_file_is_never_created,
);

const TENANT: TenantId = TenantId(Uuid::nil());

fn locations(own_file: &Path) -> KeyLocations {
    KeyLocations { text: None, file: None, own_file: own_file.to_owned() }
}

async fn a_master_key_is_created_once_with_mode_0600_and_found_again(fixture: Fixture) {
    let file = fixture.test_dir.path().join("master.key");
    let first = unlock(&fixture.store, locations(&file)).await.expect("made");
    let sealed = first.seal(TENANT, "field", b"secret").expect("sealed");
    let mode = std::fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = unlock(&fixture.store, locations(&file)).await.expect("found");
    assert_eq!(*again.open(TENANT, "field", &sealed).expect("opened"), b"secret");
}

async fn a_lost_master_key_is_not_recreated_and_another_key_is_refused(fixture: Fixture) {
    let file = fixture.test_dir.path().join("master.key");
    unlock(&fixture.store, locations(&file)).await.expect("made");
    let key = std::fs::read_to_string(&file).expect("the key");
    std::fs::remove_file(&file).expect("lost");
    let lost = unlock(&fixture.store, locations(&file)).await.expect_err("no key");
    assert!(matches!(lost, UnlockError::Lost(_)), "{lost}");
    assert!(lost.to_string().contains("MUSTER_MASTER_KEY"), "{lost}");
    assert!(!file.exists(), "another key was made");

    let other = MasterKey::random().expect("randomness").to_base64();
    std::fs::write(&file, other.as_bytes()).expect("written");
    let wrong = unlock(&fixture.store, locations(&file)).await.expect_err("another key");
    assert!(matches!(wrong, UnlockError::Wrong(_)), "{wrong}");
    std::fs::write(&file, "no key").expect("written");
    let malformed = unlock(&fixture.store, locations(&file)).await.expect_err("no key");
    assert!(matches!(malformed, UnlockError::File(_)), "{malformed}");

    let given = KeyLocations { text: Some(Zeroizing::new(key)), ..locations(&file) };
    unlock(&fixture.store, given).await.expect("the right one, from the environment");
}

async fn a_configured_key_or_key_file_is_never_created(fixture: Fixture) {
    let own = fixture.test_dir.path().join("master.key");
    let file = fixture.test_dir.path().join("given.key");
    let given = || KeyLocations { file: Some(file.clone()), ..locations(&own) };
    let none = unlock(&fixture.store, given()).await.expect_err("no file");
    assert!(matches!(none, UnlockError::NoFile(_)), "{none}");
    let key = MasterKey::random().expect("randomness").to_base64();
    std::fs::write(&file, key.as_bytes()).expect("written");
    unlock(&fixture.store, given()).await.expect("noted");
    let text = KeyLocations { text: Some(key), ..locations(&own) };
    unlock(&fixture.store, text).await.expect("the same key");
    assert!(!own.exists(), "a key was made that is not needed");
    let lost = unlock(&fixture.store, locations(&own)).await.expect_err("no key");
    assert!(matches!(lost, UnlockError::Lost(_)), "{lost}");
}
