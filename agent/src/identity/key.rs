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
        Ok(Self { configured, rekeyed })
    }

    /// The configured key, for use without a state directory.
    pub fn configured(configured: SecretString) -> Self {
        Self { configured, rekeyed: None }
    }

    /// The key to present to the server.
    pub fn current(&self) -> &SecretString {
        self.rekeyed.as_ref().unwrap_or(&self.configured)
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
        Ok(())
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
}
