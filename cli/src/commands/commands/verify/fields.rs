//! Fields of a stored execution, and the hashes that are compared with them.

use data_encoding::HEXLOWER;
use muster_protocol::identity::SignedMessage;
use ring::digest;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The field of this name, if it has the expected form.
pub fn field<T: DeserializeOwned>(execution: &Value, name: &str) -> Option<T> {
    serde_json::from_value(execution.get(name)?.clone()).ok()
}

/// The hash of a message, in hex.
pub fn sha256(message: &SignedMessage) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, message.as_bytes()).as_ref())
}
