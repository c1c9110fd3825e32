//! The key pair that proves this agent's identity. It is made on the host, and its private half
//! never leaves the state directory.

use data_encoding::BASE64;
use muster_protocol::identity::{AgentKeyPair, AgentPublicKey, InvalidAgentKey};
use secrecy::ExposeSecret as _;
use secrecy::SecretSlice;
use serde::{Deserialize, Serialize};

use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// Why there is no key pair.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("failed to make or read the key pair of this agent")]
    Invalid(#[from] InvalidAgentKey),
}

/// The content of the file, which only its owner may read.
#[derive(Serialize, Deserialize)]
struct StoredKeyPair {
    /// PKCS #8 DER, base64.
    private_key: String,
    /// The machine that it was made on. On another one it is not used.
    machine_id: String,
}

/// Reads the key pair of this machine. After a first start, and on another machine, a new one is made
/// and is durable when this returns.
///
/// # Errors
/// [`KeyPairError`] if the file is damaged or can't be read or written.
pub fn load_or_create(state: &StateDir, machine_id: &str) -> Result<AgentKeyPair, KeyPairError> {
    let stored: Option<StoredKeyPair> = storage::read_sealed(&state.key_pair())?;
    if let Some(stored) = stored.filter(|stored| stored.machine_id == machine_id) {
        let pkcs8 = BASE64.decode(stored.private_key.as_bytes()).map_err(|_| InvalidAgentKey)?;
        return Ok(AgentKeyPair::read(&pkcs8)?);
    }
    let pkcs8 = AgentKeyPair::generate()?;
    let stored =
        StoredKeyPair { private_key: BASE64.encode(&pkcs8), machine_id: machine_id.to_owned() };
    storage::replace_synced(&state.key_pair(), &storage::seal(&stored))?;
    Ok(AgentKeyPair::read(&pkcs8)?)
}

/// The public half of the stored key pair; `None` if there is none that can be read.
pub fn public_key(state: &StateDir) -> Option<AgentPublicKey> {
    let pkcs8 = private_key(state).ok()??;
    AgentKeyPair::read(pkcs8.expose_secret()).ok().map(|pair| pair.public_key())
}

/// The private half, as PKCS #8 DER; `None` before the first start.
///
/// # Errors
/// [`KeyPairError`] if the file is damaged or can't be read.
pub(super) fn private_key(state: &StateDir) -> Result<Option<SecretSlice<u8>>, KeyPairError> {
    let stored: Option<StoredKeyPair> = storage::read_sealed(&state.key_pair())?;
    let Some(stored) = stored else { return Ok(None) };
    let pkcs8 = BASE64.decode(stored.private_key.as_bytes()).map_err(|_| InvalidAgentKey)?;
    Ok(Some(pkcs8.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_pair_stays_the_same_on_its_machine_and_is_replaced_on_another_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let load = |machine: &str| load_or_create(&state, machine).expect("a key pair");
        let first = load("one");
        let mode = std::fs::metadata(state.key_pair()).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = load("one");
        assert_eq!(again.public_key(), first.public_key());
        assert!(first.public_key().has_signed(b"message", &again.sign(b"message")));
        let moved = load("another");
        assert_ne!(moved.public_key(), first.public_key());
        assert_ne!(load("one").public_key(), first.public_key(), "the former one is gone");
    }

    #[test]
    fn a_damaged_key_pair_is_an_error_and_is_never_replaced() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        std::fs::write(state.key_pair(), "{}").expect("write");
        assert!(load_or_create(&state, "one").is_err());
        assert_eq!(std::fs::read(state.key_pair()).expect("read"), b"{}");
    }
}
