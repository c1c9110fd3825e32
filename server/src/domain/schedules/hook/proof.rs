//! Proofs of deliveries: signatures with a time stamp, signatures as GitHub makes them, and bearer
//! headers. Nothing of the body is read before the proof is checked, in constant time.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::hmac;
use zeroize::Zeroizing;

use super::HookAuthentication;
use crate::domain::time::Timestamp;

/// Length of the secret of a hook in bytes.
pub const SECRET_BYTES: usize = 32;
const PREFIX: &str = "whsec_";
/// Signatures of one delivery that are compared.
const MAX_SIGNATURES: usize = 8;
/// Longest id of a delivery in characters.
pub const MAX_DELIVERY_ID_CHARS: usize = 255;
/// Default of `replay_window_ms`: 5 minutes.
pub const DEFAULT_REPLAY_WINDOW_MS: u64 = 300_000;
/// Shortest `replay_window_ms`: 1 s.
pub const MIN_REPLAY_WINDOW_MS: u64 = 1_000;
/// Longest `replay_window_ms`: 1 h.
pub const MAX_REPLAY_WINDOW_MS: u64 = 3_600_000;

/// The headers of a delivery that matter, and its body.
#[derive(Debug, Clone, Copy, Default)]
pub struct PresentedDelivery<'a> {
    /// `Authorization`
    pub authorization: Option<&'a str>,
    /// `Webhook-Id`
    pub id: Option<&'a str>,
    /// `Webhook-Timestamp`
    pub timestamp: Option<&'a str>,
    /// `Webhook-Signature`
    pub signature: Option<&'a str>,
    /// `X-Hub-Signature-256`
    pub github_signature: Option<&'a str>,
    /// `X-GitHub-Event`
    pub github_event: Option<&'a str>,
    /// `Idempotency-Key`
    pub idempotency_key: Option<&'a str>,
    pub body: &'a [u8],
}

/// Why a delivery is not taken as genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotGenuine {
    #[error("a header that proves who sent it is missing or can't be read")]
    Missing,
    #[error("its signature or secret is wrong")]
    Wrong,
    #[error("its time stamp is outside of the replay window")]
    OutsideWindow,
}

/// The secret of a hook as its sender gets it: `whsec_` and base64.
pub fn secret_text(secret: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(secret)))
}

/// Checks that the sender of the delivery knows the secret. Returns the key by which a repeated delivery is
/// recognised; `None` if the sender gave none.
///
/// GitHub signs neither a time nor the id of the delivery, so a delivery of GitHub is known by its
/// signature: another id does not make it another delivery.
///
/// # Errors
/// [`NotGenuine`].
pub fn check(
    authentication: HookAuthentication,
    secret: &[u8],
    replay_window_ms: u64,
    now: Timestamp,
    presented: &PresentedDelivery<'_>,
) -> Result<Option<String>, NotGenuine> {
    match authentication {
        HookAuthentication::Signature => signature(secret, replay_window_ms, now, presented),
        HookAuthentication::Github => github(secret, presented),
        HookAuthentication::Bearer => bearer(secret, presented),
    }
}

fn signature(
    secret: &[u8],
    replay_window_ms: u64,
    now: Timestamp,
    presented: &PresentedDelivery<'_>,
) -> Result<Option<String>, NotGenuine> {
    let id = presented.id.filter(|id| is_delivery_id(id)).ok_or(NotGenuine::Missing)?;
    let stamp = presented.timestamp.ok_or(NotGenuine::Missing)?;
    let given = presented.signature.ok_or(NotGenuine::Missing)?;
    let at_s: i64 = stamp.parse().map_err(|_| NotGenuine::Missing)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let message = [format!("{id}.{stamp}.").as_bytes(), presented.body].concat();
    let is_genuine = given
        .split(' ')
        .take(MAX_SIGNATURES)
        .filter_map(|signature| BASE64.decode(signature.strip_prefix("v1,")?.as_bytes()).ok())
        .any(|tag| hmac::verify(&key, &message, &tag).is_ok());
    if !is_genuine {
        return Err(NotGenuine::Wrong);
    }
    // After the signature, so that a stranger learns nothing about the window.
    let sent_at = Timestamp(at_s.saturating_mul(1_000));
    // Seconds are cut off, so a stamp of now may be up to a second old.
    let off_ms = now.ms_since(sent_at).max(sent_at.ms_since(now));
    match off_ms > replay_window_ms.saturating_add(1_000) {
        true => Err(NotGenuine::OutsideWindow),
        false => Ok(Some(id.to_owned())),
    }
}

fn github(secret: &[u8], presented: &PresentedDelivery<'_>) -> Result<Option<String>, NotGenuine> {
    let given = presented.github_signature.ok_or(NotGenuine::Missing)?;
    let hex = given.strip_prefix("sha256=").ok_or(NotGenuine::Missing)?;
    let tag = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| NotGenuine::Missing)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret_text(secret).as_bytes());
    hmac::verify(&key, presented.body, &tag).map_err(|_| NotGenuine::Wrong)?;
    Ok(Some(format!("sha256={}", HEXLOWER_PERMISSIVE.encode(&tag))))
}

fn bearer(secret: &[u8], presented: &PresentedDelivery<'_>) -> Result<Option<String>, NotGenuine> {
    let given = presented.authorization.ok_or(NotGenuine::Missing)?;
    let (scheme, given) = given.split_once(' ').ok_or(NotGenuine::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(NotGenuine::Missing);
    }
    // Compares digests, so that the time does not depend on how much of the secret is right.
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let expected = hmac::sign(&key, secret_text(secret).as_bytes());
    hmac::verify(&key, given.trim().as_bytes(), expected.as_ref())
        .map_err(|_| NotGenuine::Wrong)?;
    let id = presented.idempotency_key.or(presented.id);
    match id {
        Some(id) if is_delivery_id(id) => Ok(Some(id.to_owned())),
        Some(_) => Err(NotGenuine::Missing),
        None => Ok(None),
    }
}

fn is_delivery_id(id: &str) -> bool {
    (1..=MAX_DELIVERY_ID_CHARS).contains(&id.len())
        && id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8; SECRET_BYTES] = b"0123456789abcdef0123456789abcdef";
    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const BODY: &[u8] = br#"{"ref":"refs/heads/main"}"#;

    fn signed(id: &str, at_s: i64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        let message = [format!("{id}.{at_s}.").as_bytes(), body].concat();
        format!("v1,{}", BASE64.encode(hmac::sign(&key, &message).as_ref()))
    }

    fn check_signature(
        id: &str,
        stamp: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<Option<String>, NotGenuine> {
        let presented = PresentedDelivery {
            id: Some(id),
            timestamp: Some(stamp),
            signature: Some(signature),
            body,
            ..PresentedDelivery::default()
        };
        check(HookAuthentication::Signature, SECRET, 300_000, NOW, &presented)
    }

    #[test]
    fn signature_covers_id_time_and_body() {
        let good = signed("d1", 1_700_000_000, BODY);
        assert_eq!(check_signature("d1", "1700000000", &good, BODY), Ok(Some("d1".into())));
        let rotated = format!("v1,AAAA v2,x {good}");
        assert_eq!(check_signature("d1", "1700000000", &rotated, BODY), Ok(Some("d1".into())));
        for (id, stamp, body) in
            [("d2", "1700000000", BODY), ("d1", "1700000001", BODY), ("d1", "1700000000", b"{}")]
        {
            assert_eq!(
                check_signature(id, stamp, &good, body),
                Err(NotGenuine::Wrong),
                "{id} {stamp}"
            );
        }
    }

    #[test]
    fn signature_outside_of_its_window_is_refused_in_both_directions() {
        for (off_s, is_taken) in [(-302, false), (-300, true), (300, true), (302, false)] {
            let at_s = 1_700_000_000 + off_s;
            let good = signed("d1", at_s, BODY);
            let checked = check_signature("d1", &at_s.to_string(), &good, BODY);
            assert_eq!(checked.is_ok(), is_taken, "{off_s}");
        }
        let far = signed("d1", i64::MAX, BODY);
        let checked = check_signature("d1", &i64::MAX.to_string(), &far, BODY);
        assert_eq!(checked, Err(NotGenuine::OutsideWindow));
    }

    /// The example of GitHub's documentation, with its secret.
    #[test]
    fn github_signature_is_over_the_body_with_the_text_of_the_secret() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
        let tag = hmac::sign(&key, b"Hello, World!");
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(HEXLOWER_PERMISSIVE.encode(tag.as_ref()), hex);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret_text(SECRET).as_bytes());
        let tag = HEXLOWER_PERMISSIVE.encode(hmac::sign(&key, BODY).as_ref());
        let given = format!("sha256={tag}");
        let presented =
            PresentedDelivery { github_signature: Some(&given), body: BODY, ..Default::default() };
        let checked = check(HookAuthentication::Github, SECRET, 1, NOW, &presented);
        assert_eq!(checked, Ok(Some(given.clone())));
        let other = PresentedDelivery { body: b"{}", ..presented };
        let checked = check(HookAuthentication::Github, SECRET, 1, NOW, &other);
        assert_eq!(checked, Err(NotGenuine::Wrong));
    }

    #[test]
    fn bearer_needs_the_whole_secret() {
        let text = secret_text(SECRET);
        let checked = |authorization: &str| {
            let presented = PresentedDelivery {
                authorization: Some(authorization),
                body: BODY,
                ..Default::default()
            };
            check(HookAuthentication::Bearer, SECRET, 1, NOW, &presented)
        };
        assert_eq!(checked(&format!("Bearer {}", *text)), Ok(None));
        assert_eq!(checked(&format!("Bearer {}", &text[..text.len() - 1])), Err(NotGenuine::Wrong));
        assert_eq!(checked("Bearer "), Err(NotGenuine::Wrong));
        assert_eq!(checked(&text), Err(NotGenuine::Missing));
    }

    #[test]
    fn no_header_proves_nothing() {
        let presented = PresentedDelivery { body: BODY, ..Default::default() };
        for authentication in
            [HookAuthentication::Signature, HookAuthentication::Github, HookAuthentication::Bearer]
        {
            let checked = check(authentication, SECRET, 300_000, NOW, &presented);
            assert_eq!(checked, Err(NotGenuine::Missing), "{authentication:?}");
        }
    }
}
