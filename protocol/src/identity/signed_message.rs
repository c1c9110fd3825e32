//! The bytes that a signature covers.

use data_encoding::HEXLOWER;
use ring::digest;

/// A message that two different lists of fields never share: each field follows its length,
/// and the context keeps signatures of one kind from being valid as another kind.
#[derive(Debug)]
pub struct SignedMessage(Vec<u8>);

impl SignedMessage {
    /// A message of one kind. The context ends in a version.
    pub fn new(context: &str) -> Self {
        Self(Vec::new()).field(context.as_bytes())
    }

    /// Appends a field.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its SHA-256, in hex.
    pub fn sha256_hex(&self) -> String {
        HEXLOWER.encode(digest::digest(&digest::SHA256, &self.0).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(fields: &[Vec<u8>]) -> Vec<u8> {
        let message = SignedMessage::new("test 1");
        fields.iter().fold(message, |message, field| message.field(field)).0
    }

    proptest! {
        #[test]
        fn different_fields_never_give_the_same_message(
            one in prop::collection::vec(prop::collection::vec(0_u8..3, 0..4), 0..5),
            other in prop::collection::vec(prop::collection::vec(0_u8..3, 0..4), 0..5),
        ) {
            prop_assert_eq!(one == other, message(&one) == message(&other));
        }
    }
}
