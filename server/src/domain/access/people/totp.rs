//! The second factor of people: one-time codes by time (TOTP, RFC 6238), and recovery codes for a person
//! without the device. Stores nothing.

use data_encoding::{BASE32, BASE32_NOPAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use totp_rs::{Algorithm, Builder, Totp};
use url::Url;
use zeroize::Zeroizing;

use crate::domain::access::credential::{NoRandomness, SecretHash};
use crate::domain::time::Timestamp;

/// Wrong codes within [`TOTP_TRIES_MS`], for one person.
pub const MAX_TOTP_TRIES: i32 = 5;
/// How long wrong codes count: 15 minutes.
pub const TOTP_TRIES_MS: u64 = 15 * 60_000;
/// Recovery codes of a person.
pub const RECOVERY_CODES: usize = 10;
/// 160 bits, as RFC 4226 recommends.
const SECRET_BYTES: usize = 20;
const DIGITS: u8 = 6;
const STEP_S: u64 = 30;
/// Steps before and after the present one whose codes count, for clocks that differ.
const SKEW_STEPS: u16 = 1;
/// 80 bits: too many to guess, so a fast hash is enough.
const RECOVERY_BYTES: usize = 10;
const RECOVERY_CHARS: usize = 16;

/// The secret that this server and the person's device share.
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl TotpSecret {
    /// A random secret.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system's random source fails.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// A secret that was stored.
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// What to store, sealed.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// For a person who types it into a device: base32.
    pub fn text(&self) -> Zeroizing<String> {
        BASE32_NOPAD.encode(&self.0).into()
    }

    /// For a device that reads it: `otpauth://totp/…`, usually as a QR code.
    pub fn url(&self, account: &str) -> Zeroizing<String> {
        let text = self.text();
        let account: String = url::form_urlencoded::byte_serialize(account.as_bytes()).collect();
        let given = format!(
            "otpauth://totp/Muster:{account}?secret={}&issuer=Muster&algorithm=SHA1&digits={DIGITS}&period={STEP_S}",
            text.as_str()
        );
        // A plain address: nothing of it needs another form.
        Zeroizing::new(Url::parse(&given).map_or_else(|_| given.clone(), String::from))
    }

    /// The step of a code that counts now. The caller must refuse a step that was used, or an earlier one.
    pub fn step_of(&self, code: &str, now: Timestamp) -> Option<i64> {
        let seconds = u64::try_from(now.0 / 1_000).ok()?;
        i64::try_from(self.totp()?.check(code, seconds)?).ok()
    }

    fn totp(&self) -> Option<Totp> {
        let bytes: [u8; SECRET_BYTES] = self.0.as_slice().try_into().ok()?;
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_skew(SKEW_STEPS)
            .with_step_duration(STEP_S)
            .with_secret(bytes)
            .build()
            .ok()
    }
}

/// What a person typed as the second factor.
pub enum TypedCode {
    /// Six digits of the device.
    Totp(Zeroizing<String>),
    /// The hash of a recovery code.
    Recovery(SecretHash),
}

impl TypedCode {
    /// Reads a code, with white space and hyphens anywhere; `None` for a text of another form.
    pub fn read(typed: &str) -> Option<Self> {
        let plain = |c: &char| !c.is_whitespace() && *c != '-';
        let code: Zeroizing<String> =
            Zeroizing::new(typed.chars().take(64).filter(plain).collect::<String>());
        if code.len() == usize::from(DIGITS) && code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::Totp(code));
        }
        let code = Zeroizing::new(code.to_ascii_lowercase());
        let is_recovery = code.len() == RECOVERY_CHARS
            && code.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
        is_recovery.then(|| Self::Recovery(SecretHash::of(&code)))
    }
}

/// New recovery codes in clear text. Show them once, then drop them.
pub struct RecoveryCodes {
    /// As `xxxx-xxxx-xxxx-xxxx`.
    pub texts: Vec<Zeroizing<String>>,
    /// What to store.
    pub hashes: Vec<SecretHash>,
}

impl RecoveryCodes {
    /// Random codes.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system's random source fails.
    pub fn random() -> Result<Self, NoRandomness> {
        let (mut texts, mut hashes) = (Vec::new(), Vec::new());
        for _ in 0..RECOVERY_CODES {
            let mut bytes = Zeroizing::new([0; RECOVERY_BYTES]);
            SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
            let code = Zeroizing::new(BASE32.encode(bytes.as_slice()).to_ascii_lowercase());
            let groups: Vec<&str> =
                (0..RECOVERY_CHARS).step_by(4).map(|at| &code[at..at + 4]).collect();
            texts.push(Zeroizing::new(groups.join("-")));
            hashes.push(SecretHash::of(&code));
        }
        Ok(Self { texts, hashes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, in six digits.
    #[test]
    fn codes_are_those_of_the_standard_and_count_for_a_step_around_now() {
        let secret = TotpSecret::from_bytes(b"12345678901234567890".to_vec().into());
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")]
        {
            let step = Some(seconds / 30);
            assert_eq!(secret.step_of(code, Timestamp(seconds * 1_000)), step);
            assert_eq!(secret.step_of(code, Timestamp((seconds + 30) * 1_000)), step);
            assert_eq!(secret.step_of(code, Timestamp((seconds + 61) * 1_000)), None);
        }
        let at = Timestamp(59_000);
        for other in ["", "287083", "28708", "2870821", "-87082", "+87082", "２８７０８２"] {
            assert_eq!(secret.step_of(other, at), None, "{other}");
        }
        assert_eq!(secret.step_of("287082", Timestamp(-1_000)), None);
        let url = secret.url("ada+x@example.com");
        assert_eq!(
            url.as_str(),
            "otpauth://totp/Muster:ada%2Bx%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Muster&algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(TotpSecret::random().expect("randomness").text().len(), 32);
    }

    #[test]
    fn recovery_codes_are_read_as_people_type_them() {
        let made = RecoveryCodes::random().expect("randomness");
        assert_eq!((made.texts.len(), made.hashes.len()), (RECOVERY_CODES, RECOVERY_CODES));
        let (text, hash) = (&made.texts[0], made.hashes[0]);
        assert_eq!(text.len(), 19);
        for typed in
            [text.to_string(), text.to_uppercase(), format!(" {} ", text.replace('-', " "))]
        {
            let read = TypedCode::read(&typed);
            assert!(matches!(read, Some(TypedCode::Recovery(read)) if read == hash), "{typed}");
        }
        let is_totp = |typed| matches!(TypedCode::read(typed), Some(TypedCode::Totp(_)));
        assert!(is_totp("123456") && is_totp(" 123 456\n"));
        for other in ["", "12345", "1234567", "abcd-efgh-ijkl-mno0", "abcd", &"a".repeat(80)] {
            assert!(TypedCode::read(other).is_none(), "{other}");
        }
    }
}
