//! Signatures by the Standard Webhooks specification: `v1`, HMAC-SHA256.
//!
//! Each URL has a secret of its own, derived from the tenant's key: a receiver can't sign what
//! another one would take for ours.

use data_encoding::BASE64;
use ring::hmac;
use zeroize::Zeroizing;

/// Bytes of a tenant's key.
pub const ROOT_BYTES: usize = 32;
const PREFIX: &str = "whsec_";

/// What the messages to one URL are signed with.
pub struct SigningSecret(Zeroizing<Vec<u8>>);

impl SigningSecret {
    /// The secret of a URL under a tenant's key.
    pub fn derive(root: &[u8], url: &str) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, root);
        let mut context = hmac::Context::with_key(&root);
        context.update(b"muster webhook 1\0");
        context.update(url.as_bytes());
        Self(Zeroizing::new(context.sign().as_ref().to_vec()))
    }

    /// As receivers are told it: `whsec_` and base64.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(&self.0)))
    }

    /// `v1,` and the signature of one message; `at_s` is seconds since the Unix epoch.
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

    /// The example of the specification's own libraries.
    #[test]
    fn the_specifications_example_is_signed_as_it_says() {
        let secret = BASE64.decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let secret = SigningSecret(Zeroizing::new(secret));
        let body = br#"{"test": 2432232314}"#;
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(&*secret.to_text(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn each_url_and_each_key_has_a_secret_of_its_own() {
        let text = |root: u8, url: &str| {
            SigningSecret::derive(&[root; ROOT_BYTES], url).to_text().to_string()
        };
        let one = text(1, "https://a.example/");
        assert_eq!(one, text(1, "https://a.example/"));
        assert_ne!(one, text(1, "https://a.example/b"));
        assert_ne!(one, text(2, "https://a.example/"));
    }
}
