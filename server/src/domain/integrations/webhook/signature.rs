//! Signatures by the Standard Webhooks specification: `v1`, HMAC-SHA256.
//!
//! Each URL has its own secret, derived from the tenant's key, so that one receiver cannot forge
//! messages to another.

use data_encoding::BASE64;
use ring::hmac;
use zeroize::Zeroizing;

/// Length of a tenant's key in bytes.
pub const ROOT_BYTES: usize = 32;
const PREFIX: &str = "whsec_";

/// The secret that signs the messages to one URL.
pub struct SigningSecret(Zeroizing<Vec<u8>>);

impl SigningSecret {
    /// Derives the secret of a URL from a tenant's key.
    pub fn derive(root: &[u8], url: &str) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, root);
        let mut context = hmac::Context::with_key(&root);
        context.update(b"muster webhook 1\0");
        context.update(url.as_bytes());
        Self(Zeroizing::new(context.sign().as_ref().to_vec()))
    }

    /// The form for receivers: `whsec_` and base64.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(&self.0)))
    }

    /// The signature of one message: `v1,` and base64. `at_s` is seconds since the Unix epoch.
    pub fn sign(&self, id: &str, at_s: i64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{id}.{at_s}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn the_example_of_the_specification_has_the_expected_signature() {
        let secret = BASE64.decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let secret = SigningSecret(Zeroizing::new(secret));
        let body = br#"{"test": 2432232314}"#;
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(&*secret.to_text(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn each_url_and_each_key_has_its_own_secret() {
        let text = |root: u8, url: &str| {
            SigningSecret::derive(&[root; ROOT_BYTES], url).to_text().to_string()
        };
        let one = text(1, "https://a.example/");
        assert_eq!(one, text(1, "https://a.example/"));
        assert_ne!(one, text(1, "https://a.example/b"));
        assert_ne!(one, text(2, "https://a.example/"));
    }
}
