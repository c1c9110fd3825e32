//! One sign-in on its way to a provider and back. The browser keeps it in a cookie, sealed under the master
//! key, so that only the browser that began it can complete it and the server stores nothing.

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::access::credential::{NoRandomness, SecretHash};
use crate::domain::access::people::oidc_provider::ReturnPath;
use crate::domain::ids::{SessionId, TenantId};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Timestamp;
use crate::services::error::Result;

/// How long a person may take at the provider: 10 minutes.
pub const OIDC_ATTEMPT_MS: u64 = 10 * 60_000;
const NO_TENANT: TenantId = TenantId(Uuid::nil());
const FIELD: &str = "oidc_attempt";
/// Longest cookie that is opened.
const MAX_ATTEMPT_BYTES: usize = 4_096;

/// A sign-in that has begun.
#[derive(Serialize, Deserialize)]
pub(super) struct OidcAttempt {
    pub provider: String,
    pub state: String,
    pub nonce: String,
    pub verifier: String,
    pub redirect_uri: String,
    pub return_to: String,
    pub expires_at: Timestamp,
    /// The session whose person gets the identity.
    pub links: Option<SessionId>,
    /// The provider was asked to prove the person again.
    pub confirms: bool,
}

impl OidcAttempt {
    pub(super) fn new(
        provider: &str,
        redirect_uri: String,
        return_to: &ReturnPath,
        now: Timestamp,
    ) -> Result<Self> {
        Ok(Self {
            provider: provider.to_owned(),
            state: random()?,
            nonce: random()?,
            verifier: random()?,
            redirect_uri,
            return_to: return_to.as_str().to_owned(),
            expires_at: now.plus_ms(OIDC_ATTEMPT_MS),
            links: None,
            confirms: false,
        })
    }

    /// The challenge of PKCE, with `S256`.
    pub(super) fn challenge(&self) -> String {
        BASE64URL_NOPAD.encode(digest(&SHA256, self.verifier.as_bytes()).as_ref())
    }

    /// The value of the cookie.
    pub(super) fn seal(&self, secret_box: &SecretBox) -> Result<Zeroizing<String>> {
        // Plain texts always serialise.
        let text = Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        let sealed = secret_box.seal(NO_TENANT, FIELD, &text)?;
        Ok(BASE64URL_NOPAD.encode(&sealed).into())
    }

    /// The attempt of a cookie, if it is of this provider and state, and has not expired.
    pub(super) fn open(
        cookie: &str,
        provider: &str,
        state: &str,
        secret_box: &SecretBox,
        now: Timestamp,
    ) -> Option<Self> {
        let sealed = Some(cookie).filter(|text| text.len() <= MAX_ATTEMPT_BYTES)?;
        let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let text = secret_box.open(NO_TENANT, FIELD, &sealed).ok()?;
        let attempt: Self = serde_json::from_slice(&text).ok()?;
        // Hashes, so that the time of the comparison shows nothing.
        let is_same = SecretHash::of(&attempt.state) == SecretHash::of(state);
        let is_open =
            attempt.expires_at > now && attempt.expires_at <= now.plus_ms(OIDC_ATTEMPT_MS);
        (is_same && is_open && attempt.provider == provider).then_some(attempt)
    }
}

fn random() -> Result<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
    Ok(BASE64URL_NOPAD.encode(bytes.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operations::master_key::MasterKey;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn an_attempt_opens_only_for_its_provider_its_state_and_its_time() {
        let boxed = |byte: u8| {
            let key = data_encoding::BASE64.encode(&[byte; 32]);
            SecretBox::new(&MasterKey::from_base64(&key).expect("a key")).expect("a box")
        };
        let mine = boxed(1);
        let path = ReturnPath::parse("/").expect("a path");
        let back = String::from("http://localhost/back");
        let attempt = OidcAttempt::new("corp", back, &path, NOW).expect("made");
        let (cookie, state) = (attempt.seal(&mine).expect("sealed"), attempt.state.as_str());
        let open = |cookie: &str, provider: &str, state: &str, now| {
            OidcAttempt::open(cookie, provider, state, &mine, now).is_some()
        };
        assert!(open(&cookie, "corp", state, NOW));
        assert!(!open(&cookie, "other", state, NOW));
        assert!(!open(&cookie, "corp", &attempt.nonce, NOW));
        assert!(!open(&cookie, "corp", "", NOW) && !open("", "corp", "", NOW));
        assert!(!open(&cookie, "corp", state, NOW.plus_ms(OIDC_ATTEMPT_MS)));
        assert!(!open(&cookie, "corp", state, NOW.minus_ms(1)), "a clock behind");
        assert!(OidcAttempt::open(&cookie, "corp", state, &boxed(2), NOW).is_none());
        assert!((43..=128).contains(&attempt.verifier.len()));
        assert_ne!(attempt.verifier, attempt.nonce);
    }
}
