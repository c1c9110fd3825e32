//! Public keys, fingerprints, challenges and signatures as text: printed as they were read, and no
//! signature of one message is one of another.

use std::fmt::Display;
use std::str::FromStr;

use muster_protocol::identity::{AgentKeyPair, AgentPublicKey, Challenge, Fingerprint};

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    printed_as_read::<AgentPublicKey>(text);
    printed_as_read::<Fingerprint>(text);
    printed_as_read::<Challenge>(text);
    let pair = AgentKeyPair::from_seed(&[7; 32]).expect("a key pair");
    assert!(!pair.public_key().has_signed(b"message", text) || text == pair.sign(b"message"));
    assert!(pair.public_key().has_signed(bytes, &pair.sign(bytes)));
    assert!(!pair.public_key().has_signed(b"message", &pair.sign(&[bytes, b"x"].concat())));
    // What is on disk.
    let _ = AgentKeyPair::read(bytes);
}

fn printed_as_read<T: FromStr + Display>(text: &str)
where
    T::Err: std::error::Error,
{
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string(), text),
        Err(refusal) => super::check_refusal(&refusal),
    }
}
