//! Codes of six digits that prove that a person reads the mails of an address.

use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::access::credential::NoRandomness;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Timestamp;

/// How long a code is valid: 10 minutes.
pub const CODE_MS: u64 = 10 * 60_000;
/// Codes that may be tried for one request. Another code by mail does not raise it.
pub const MAX_CODE_TRIES: i32 = 5;
const DIGITS: usize = 6;
const CODES: u32 = 1_000_000;
/// The largest multiple of [`CODES`]: numbers above would make some codes likelier.
const FAIR: u32 = u32::MAX - u32::MAX % CODES;

/// A code in clear text. Send it, then drop it.
pub struct VerificationCode(Zeroizing<String>);

impl VerificationCode {
    /// A random code.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system's random source fails.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 4];
        loop {
            SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
            let number = u32::from_be_bytes(bytes);
            if number < FAIR {
                return Ok(Self(Zeroizing::new(format!("{:06}", number % CODES))));
            }
        }
    }

    /// Its digits.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The hash to store: of this code for this request, under the master key, because a million guesses
    /// are quick.
    pub fn hash(&self, secret_box: &SecretBox, request: Uuid) -> [u8; 32] {
        hash(secret_box, request, &self.0)
    }
}

/// The hash of what a person typed; `None` for anything but six digits.
pub fn presented_hash(secret_box: &SecretBox, request: Uuid, typed: &str) -> Option<[u8; 32]> {
    let typed = typed.trim();
    let is_code = typed.len() == DIGITS && typed.bytes().all(|byte| byte.is_ascii_digit());
    is_code.then(|| hash(secret_box, request, typed))
}

fn hash(secret_box: &SecretBox, request: Uuid, code: &str) -> [u8; 32] {
    secret_box.digest(&[b"muster code 1", request.as_bytes().as_slice(), code.as_bytes()].concat())
}

/// What is stored of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCode {
    pub hash: Vec<u8>,
    pub expires_at: Timestamp,
    /// How often a code was tried.
    pub tries: i32,
}

impl StoredCode {
    /// True for the right code in time. The caller must count the try, right or wrong.
    pub fn is(&self, presented: Option<[u8; 32]>, now: Timestamp) -> bool {
        // One that is valid for longer is of a clock that was ahead.
        let is_open = now < self.expires_at && self.expires_at <= now.plus_ms(CODE_MS);
        self.tries < MAX_CODE_TRIES && is_open && presented.is_some_and(|hash| self.hash == hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operations::master_key::MasterKey;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn boxed(byte: u8) -> SecretBox {
        let key = data_encoding::BASE64.encode(&[byte; 32]);
        SecretBox::new(&MasterKey::from_base64(&key).expect("a key")).expect("a box")
    }

    #[test]
    fn code_counts_for_its_request_in_time_and_five_times() {
        let (mine, request) = (boxed(1), Uuid::from_u128(1));
        let code = VerificationCode::random().expect("randomness");
        assert_eq!(code.text().len(), 6);
        let stored = StoredCode {
            hash: code.hash(&mine, request).to_vec(),
            expires_at: NOW.plus_ms(CODE_MS),
            tries: 4,
        };
        let typed = |text: &str| presented_hash(&mine, request, text);
        assert!(stored.is(typed(&format!(" {}\n", code.text())), NOW));
        assert!(!stored.is(presented_hash(&mine, Uuid::from_u128(2), code.text()), NOW));
        assert!(!stored.is(presented_hash(&boxed(2), request, code.text()), NOW));
        assert!(!stored.is(typed(code.text()), stored.expires_at));
        assert!(!stored.is(typed(code.text()), NOW.minus_ms(1)), "a clock that was ahead");
        assert!(!StoredCode { tries: 5, ..stored.clone() }.is(typed(code.text()), NOW));
        for other in ["", "12345", "1234567", "12345a", "１２３４５６", "+12345"] {
            assert_eq!(typed(other), None, "{other}");
        }
        assert!(!stored.is(None, NOW));
    }
}
