//! A device with passkeys: what a browser and its authenticator do, by the specification of WebAuthn and not
//! with the server's crate.

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::json::JsonFields as _;

const PRESENT: u8 = 1;
const VERIFIED: u8 = 1 << 2;
const HAS_CREDENTIAL: u8 = 1 << 6;
/// The number of ECDSA with P-256 and SHA-256 in COSE.
const ES256: i64 = -7;

/// A device with one passkey. Change its fields to make it lie.
#[derive(Debug)]
pub struct Authenticator {
    /// The origin of the page, as the browser reports it.
    pub origin: String,
    /// The host that it signs for, if not the one that it was asked for.
    pub host: Option<String>,
    /// Whether it verified its person.
    pub verifies_person: bool,
    /// How often it signed; 0 for a device that does not count.
    pub sign_count: u32,
    pub credential_id: Vec<u8>,
    pub user_handle: String,
    key_pair: EcdsaKeyPair,
}

impl Authenticator {
    /// A device in a browser that shows a page of this origin.
    ///
    /// # Panics
    /// If there are no random numbers.
    pub fn new(origin: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("generate a key pair");
        let key_pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random);
        let mut credential_id = vec![0; 32];
        random.fill(&mut credential_id).expect("random numbers");
        Self {
            origin: origin.to_owned(),
            host: None,
            verifies_person: true,
            sign_count: 1,
            credential_id,
            user_handle: String::new(),
            key_pair: key_pair.expect("read the key pair"),
        }
    }

    /// Makes the passkey that the server asked for. Returns the body that adds it.
    ///
    /// # Panics
    /// If the server does not accept its algorithm.
    pub fn make(&mut self, asked: &Value, name: &str) -> Value {
        let algorithms = asked["algorithms"].as_array().expect("algorithms");
        assert!(algorithms.contains(&ES256.into()), "{asked}");
        asked.text("user_handle").clone_into(&mut self.user_handle);
        let client_data = self.client_data("webauthn.create", asked.text("nonce"));
        let mut data = self.authenticator_data(asked.text("host"), HAS_CREDENTIAL);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.credential_id.len()).expect("short").to_be_bytes());
        data.extend(&self.credential_id);
        data.extend(self.cose_key());
        // {"fmt": "none", "attStmt": {}, "authData": …} in CBOR.
        let mut attestation = vec![0xa3];
        attestation.extend(b"\x63fmt\x64none\x67attStmt\xa0\x68authData\x59");
        attestation.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        attestation.extend(data);
        json!({
            "challenge": asked.text("challenge"),
            "name": name,
            "credential_id": encoded(&self.credential_id),
            "client_data": encoded(&client_data),
            "attestation_object": encoded(&attestation),
        })
    }

    /// Signs what the server asked for. Returns the body that proves it.
    ///
    /// # Panics
    /// If there are no random numbers.
    pub fn sign(&mut self, asked: &Value) -> Value {
        if self.sign_count > 0 {
            self.sign_count += 1;
        }
        let client_data = self.client_data("webauthn.get", asked.text("nonce"));
        let data = self.authenticator_data(asked.text("host"), 0);
        let signed = [&data[..], digest(&SHA256, &client_data).as_ref()].concat();
        let signature = self.key_pair.sign(&SystemRandom::new(), &signed).expect("sign");
        json!({
            "challenge": asked.text("challenge"),
            "credential_id": encoded(&self.credential_id),
            "user_handle": self.user_handle,
            "client_data": encoded(&client_data),
            "authenticator_data": encoded(&data),
            "signature": encoded(signature.as_ref()),
        })
    }

    fn client_data(&self, kind: &str, nonce: &str) -> Vec<u8> {
        let origin = &self.origin;
        let data =
            json!({"type": kind, "challenge": nonce, "origin": origin, "crossOrigin": false});
        data.to_string().into_bytes()
    }

    fn authenticator_data(&self, host: &str, flags: u8) -> Vec<u8> {
        let verified = if self.verifies_person { VERIFIED } else { 0 };
        let host = self.host.as_deref().unwrap_or(host);
        let mut data = digest(&SHA256, host.as_bytes()).as_ref().to_vec();
        data.push(PRESENT | verified | flags);
        data.extend(self.sign_count.to_be_bytes());
        data
    }

    /// {1: 2, 3: -7, -1: 1, -2: x, -3: y} in CBOR: an elliptic curve key of P-256.
    fn cose_key(&self) -> Vec<u8> {
        let point = self.key_pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let mut key = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
        key.extend(x);
        key.extend([0x22, 0x58, 0x20]);
        key.extend(y);
        key
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}
