//! The agent key: the configured one, or the one that the server issued to replace it.

use data_encoding::HEXLOWER;
use ring::digest;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// The keys of this agent.
#[derive(Debug, Clone)]
pub struct KeyRing {
    configured: SecretString,
    rekeyed: Option<SecretString>,
    /// A server rejected the issued key, so the configured one is presented.
    is_rekeyed_rejected: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    key: String,
    /// Hex SHA-256 of the configured key that this one replaces.
    replaces_sha256: String,
}

impl KeyRing {
    /// Loads the configured key, or its replacement if the server issued one for exactly this key.
    /// A newly configured key always takes precedence.
    ///
    /// # Errors
    /// [`StorageError`] if the stored key can't be read.
    pub fn load(configured: SecretString, state: &StateDir) -> Result<Self, StorageError> {
        let stored: Option<StoredKey> = storage::read_sealed(&state.key())?;
        let rekeyed = stored
            .filter(|stored| stored.replaces_sha256 == hash(&configured))
            .map(|stored| SecretString::from(stored.key));
        Ok(Self { configured, rekeyed, is_rekeyed_rejected: false })
    }

    /// The configured key, for use without a state directory.
    pub fn configured(configured: SecretString) -> Self {
        Self { configured, rekeyed: None, is_rekeyed_rejected: false }
    }

    /// The key to present to the server.
    pub fn current(&self) -> &SecretString {
        let rekeyed = self.rekeyed.as_ref().filter(|_| !self.is_rekeyed_rejected);
        rekeyed.unwrap_or(&self.configured)
    }

    /// Hex SHA-256 of the key to present.
    pub fn fingerprint(&self) -> String {
        hash(self.current())
    }

    /// Stores a key that the server issued, durably, and presents it from then on.
    ///
    /// # Errors
    /// The system's error; the previous key stays in use.
    pub fn replace(&mut self, key: String, state: &StateDir) -> Result<(), StorageError> {
        let stored = StoredKey { key, replaces_sha256: hash(&self.configured) };
        storage::replace_synced(&state.key(), &storage::seal(&stored))?;
        self.rekeyed = Some(SecretString::from(stored.key));
        self.is_rekeyed_rejected = false;
        Ok(())
    }

    /// A server does not accept the presented key. If it replaced the configured key, the configured
    /// one is presented next, and the other way round. Returns true if the configured key has not
    /// been tried since.
    pub fn rejected(&mut self) -> bool {
        if self.rekeyed.is_none() {
            return false;
        }
        self.is_rekeyed_rejected = !self.is_rekeyed_rejected;
        self.is_rekeyed_rejected
    }

    /// A server accepts the presented key. If that is the configured key although another one was
    /// issued, the issued one is deleted: a server that was restored, or one that had no right to
    /// issue it, must not lock the host out.
    ///
    /// # Errors
    /// The system's error; the issued key is then tried again after a restart.
    pub fn accepted(&mut self, state: &StateDir) -> Result<(), StorageError> {
        if !self.is_rekeyed_rejected {
            return Ok(());
        }
        (self.rekeyed, self.is_rekeyed_rejected) = (None, false);
        storage::remove(&state.key())
    }
}

fn hash(key: &SecretString) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, key.expose_secret().as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issued_key_is_used_until_the_operator_configures_another_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let current = |configured: &str| {
            let ring = KeyRing::load(configured.to_owned().into(), &state).expect("key ring");
            ring.current().expose_secret().to_owned()
        };
        let mut ring = KeyRing::load("old".to_owned().into(), &state).expect("key ring");
        ring.replace("given".into(), &state).expect("stored");
        assert_eq!(current("old"), "given");
        assert_eq!(current("new"), "new");
    }

    #[test]
    fn a_rejected_issued_key_alternates_with_the_configured_one_until_a_server_accepts_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let load = || KeyRing::load("configured".to_owned().into(), &state).expect("key ring");
        let shown = |ring: &KeyRing| ring.current().expose_secret().to_owned();
        let mut ring = load();
        assert!(!ring.rejected(), "there is no other key");
        ring.replace("issued".into(), &state).expect("stored");
        ring.accepted(&state).expect("nothing to do");
        assert!(ring.rejected());
        assert_eq!(shown(&ring), "configured");
        assert_eq!(shown(&load()), "issued", "no server has accepted the configured one");
        assert!(!ring.rejected());
        assert_eq!(shown(&ring), "issued");
        assert!(ring.rejected());
        ring.accepted(&state).expect("removed");
        assert_eq!((shown(&ring), shown(&load())), ("configured".into(), "configured".into()));
    }
}
