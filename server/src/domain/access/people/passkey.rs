//! Passkeys: key pairs of a person's devices, which sign the person in instead of a password and a code.

use crate::domain::ids::PasskeyId;
use crate::domain::time::Timestamp;

/// Passkeys of one person.
pub const MAX_PASSKEYS_OF_PERSON: usize = 16;
/// How long a person may take to use a device: 5 minutes.
pub const PASSKEY_CHALLENGE_MS: u64 = 5 * 60_000;
/// Longest value that a browser sends of a device, in bytes.
pub const MAX_PASSKEY_VALUE_BYTES: usize = 4_096;

/// A passkey, without its public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyRecord {
    pub id: PasskeyId,
    /// Given by the person.
    pub name: String,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

/// What a browser needs to make a passkey.
#[derive(Debug, Clone)]
pub struct NewPasskeyOptions {
    /// The host that the passkey is for.
    pub host: String,
    /// What the device signs.
    pub nonce: Vec<u8>,
    /// Numbers of COSE, the preferred one first.
    pub algorithms: Vec<i64>,
}

/// A passkey that a device made.
#[derive(Debug, Clone)]
pub struct MadePasskey {
    pub credential_id: Vec<u8>,
    pub client_data: Vec<u8>,
    pub attestation: Vec<u8>,
}

/// What a browser needs to use a passkey.
#[derive(Debug, Clone)]
pub struct PasskeyUseOptions {
    /// The host that the passkey is for.
    pub host: String,
    /// What the device signs.
    pub nonce: Vec<u8>,
}

/// What a device signed.
#[derive(Debug, Clone)]
pub struct PasskeyAssertion {
    pub credential_id: Vec<u8>,
    pub user_handle: Vec<u8>,
    pub client_data: Vec<u8>,
    pub authenticator_data: Vec<u8>,
    pub signature: Vec<u8>,
}
