//! The device of a person's second factor.

use data_encoding::BASE32_NOPAD;
use ring::hmac;

/// The code of a step, counted from the present one: computed as RFC 6238 says, and not with the server's crate.
///
/// # Panics
/// If the secret is not base32.
pub fn totp_code(secret: &str, offset: i64) -> String {
    let bytes = BASE32_NOPAD.decode(secret.as_bytes()).expect("base32");
    let step = chrono::Utc::now().timestamp() / 30 + offset;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &bytes);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes([tag[at] & 127, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:06}", number % 1_000_000)
}
