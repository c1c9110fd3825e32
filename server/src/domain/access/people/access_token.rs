//! Access tokens of people who are signed in: JWTs that this server signs with Ed25519.
//!
//! A token says which session it is of. Whether the session, the member and its role still hold is
//! read from the database.

use data_encoding::BASE64URL_NOPAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::access::credential::NoRandomness;
use crate::domain::ids::{MemberId, SessionId, TokenKeyId};
use crate::domain::time::Timestamp;

/// How long an access token is valid: 15 minutes.
pub const ACCESS_TOKEN_MS: u64 = 15 * 60_000;
/// Longest token. One of this server has some 400 bytes.
pub const MAX_ACCESS_TOKEN_BYTES: usize = 1_024;
/// How long a key signs: 30 days.
const SIGNING_MS: u64 = 30 * 24 * 3_600_000;
/// How long after that its tokens are accepted: 30 days, though none is valid for so long.
const OVERLAP_MS: u64 = SIGNING_MS;
const ALGORITHM: &str = "EdDSA";
const KIND: &str = "JWT";
const ISSUER: &str = "muster";
const SEED_BYTES: usize = 32;

/// What an access token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessClaims {
    pub member_id: MemberId,
    pub session_id: SessionId,
    pub expires_at: Timestamp,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenProblem {
    /// It is not a token of this server.
    Invalid,
    Expired,
}

// A header with another field is refused, because it may change what the signature means (`crit`, `jwk`).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: TokenKeyId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenPayload<'a> {
    iss: &'a str,
    sub: MemberId,
    sid: SessionId,
    /// Seconds since the Unix epoch.
    iat: i64,
    exp: i64,
}

/// A key that signs access tokens.
#[derive(Debug)]
pub struct TokenKey {
    pub id: TokenKeyId,
    pub created_at: Timestamp,
    pair: Ed25519KeyPair,
}

impl TokenKey {
    /// A key from its seed; `None` if the bytes are not one.
    pub fn from_seed(id: TokenKeyId, created_at: Timestamp, seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(Self { id, created_at, pair })
    }

    /// The seed of a new key.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system's random source fails.
    pub fn random_seed() -> Result<Zeroizing<[u8; SEED_BYTES]>, NoRandomness> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        SystemRandom::new().fill(seed.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(seed)
    }

    /// True if it signs new tokens. A key from a later time does not: the clock was ahead when it was
    /// made, and it would sign for too long.
    pub fn signs_at(created_at: Timestamp, now: Timestamp) -> bool {
        created_at <= now && now < created_at.plus_ms(SIGNING_MS)
    }

    /// True if its tokens are accepted.
    pub fn is_kept_at(created_at: Timestamp, now: Timestamp) -> bool {
        created_at <= now.plus_ms(SIGNING_MS) && now < created_at.plus_ms(SIGNING_MS + OVERLAP_MS)
    }

    /// Signs a token that is valid from now on.
    pub fn issue(
        &self,
        member_id: MemberId,
        session_id: SessionId,
        now: Timestamp,
    ) -> (String, AccessClaims) {
        let (iat, lifetime_s) = (now.0.div_euclid(1_000), (ACCESS_TOKEN_MS / 1_000).cast_signed());
        let exp = iat.saturating_add(lifetime_s);
        let header = Header { alg: ALGORITHM, typ: KIND, kid: self.id };
        let payload = TokenPayload { iss: ISSUER, sub: member_id, sid: session_id, iat, exp };
        let signed = format!("{}.{}", encoded(&header), encoded(&payload));
        let signature = self.pair.sign(signed.as_bytes());
        let text = format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()));
        let expires_at = Timestamp(exp.saturating_mul(1_000));
        (text, AccessClaims { member_id, session_id, expires_at })
    }
}

fn encoded(part: &impl Serialize) -> String {
    // Plain structures of texts and numbers always serialise.
    BASE64URL_NOPAD.encode(&serde_json::to_vec(part).unwrap_or_default())
}

/// A token whose signature was not checked yet.
#[derive(Debug)]
pub struct PresentedToken<'a> {
    /// Names the key that must have signed it.
    pub key_id: TokenKeyId,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> PresentedToken<'a> {
    /// True for a text that may be an access token, and is no other secret of Muster.
    pub fn is_like(text: &str) -> bool {
        text.len() <= MAX_ACCESS_TOKEN_BYTES
            && text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Reads the header of a token; `None` for anything but a JWT with EdDSA and the id of a key.
    pub fn read(text: &'a str) -> Option<Self> {
        if !Self::is_like(text) {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, _) = signed.split_once('.')?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
        let header = BASE64URL_NOPAD.decode(header.as_bytes()).ok()?;
        let header: Header<'_> = serde_json::from_slice(&header).ok()?;
        let is_known = header.alg == ALGORITHM && header.typ == KIND;
        is_known.then_some(Self { key_id: header.kid, signed, signature })
    }

    /// What the token says, if this key signed it and it is valid now.
    ///
    /// A token that expires later than one issued now would is refused: the clock was ahead when it was
    /// issued.
    ///
    /// # Errors
    /// [`TokenProblem`].
    pub fn verify(&self, key: &TokenKey, now: Timestamp) -> Result<AccessClaims, TokenProblem> {
        let public = UnparsedPublicKey::new(&ED25519, key.pair.public_key().as_ref());
        public
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| TokenProblem::Invalid)?;
        let (_, payload) = self.signed.split_once('.').ok_or(TokenProblem::Invalid)?;
        let payload =
            BASE64URL_NOPAD.decode(payload.as_bytes()).map_err(|_| TokenProblem::Invalid)?;
        let payload: TokenPayload<'_> =
            serde_json::from_slice(&payload).map_err(|_| TokenProblem::Invalid)?;
        let expires_at = Timestamp(payload.exp.saturating_mul(1_000));
        if payload.iss != ISSUER || expires_at > now.plus_ms(ACCESS_TOKEN_MS) {
            return Err(TokenProblem::Invalid);
        }
        if expires_at <= now {
            return Err(TokenProblem::Expired);
        }
        Ok(AccessClaims { member_id: payload.sub, session_id: payload.sid, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_500);

    fn key(byte: u8) -> TokenKey {
        let id = TokenKeyId(uuid::Uuid::from_u128(u128::from(byte)));
        TokenKey::from_seed(id, NOW, &[byte; SEED_BYTES]).expect("a seed")
    }

    fn verify(text: &str, key: &TokenKey, now: Timestamp) -> Result<AccessClaims, TokenProblem> {
        PresentedToken::read(text).ok_or(TokenProblem::Invalid)?.verify(key, now)
    }

    /// A token with this header and payload that the key signed.
    fn signed(key: &TokenKey, header: &str, payload: &str) -> String {
        let text = format!(
            "{}.{}",
            BASE64URL_NOPAD.encode(header.as_bytes()),
            BASE64URL_NOPAD.encode(payload.as_bytes())
        );
        let signature = key.pair.sign(text.as_bytes());
        format!("{text}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }

    #[test]
    fn a_token_is_valid_for_its_time_and_under_its_key_only() {
        let (key, other) = (key(1), key(2));
        let (text, claims) = key.issue(MemberId::new(), SessionId::new(), NOW);
        assert_eq!(verify(&text, &key, NOW), Ok(claims));
        assert_eq!(verify(&text, &other, NOW), Err(TokenProblem::Invalid));
        let last = Timestamp(claims.expires_at.0 - 1);
        assert_eq!(verify(&text, &key, last), Ok(claims));
        assert_eq!(verify(&text, &key, claims.expires_at), Err(TokenProblem::Expired));
        // It was issued by a clock that was ahead.
        assert_eq!(verify(&text, &key, NOW.minus_ms(2_000)), Err(TokenProblem::Invalid));
        for length in 0..text.len() {
            assert_eq!(verify(&text[..length], &key, NOW), Err(TokenProblem::Invalid), "{length}");
        }
    }

    #[test]
    fn other_algorithms_headers_and_issuers_are_refused_even_with_a_valid_signature() {
        let key = key(1);
        let exp = NOW.0 / 1_000 + 60;
        let (member, session) = (MemberId::new(), SessionId::new());
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": key.id});
        let payload = json!({"iss": "muster", "sub": member, "sid": session, "iat": 1, "exp": exp});
        let token = signed(&key, &header.to_string(), &payload.to_string());
        assert!(verify(&token, &key, NOW).is_ok());
        for (field, value) in [
            ("alg", json!("none")),
            ("alg", json!("HS256")),
            ("alg", json!("RS256")),
            ("alg", json!("eddsa")),
            ("typ", json!("at+jwt")),
            ("kid", json!(null)),
            ("crit", json!(["exp"])),
            ("jwk", json!({})),
        ] {
            let mut header = header.clone();
            header[field] = value;
            let token = signed(&key, &header.to_string(), &payload.to_string());
            assert_eq!(verify(&token, &key, NOW), Err(TokenProblem::Invalid), "{header}");
        }
        for (field, value) in
            [("iss", json!("other")), ("sub", json!("x")), ("exp", json!("1")), ("more", json!(1))]
        {
            let mut payload = payload.clone();
            payload[field] = value;
            let token = signed(&key, &header.to_string(), &payload.to_string());
            assert_eq!(verify(&token, &key, NOW), Err(TokenProblem::Invalid), "{payload}");
        }
        let twice = format!(r#"{{"alg":"none",{}"#, &header.to_string()[1..]);
        let token = signed(&key, &twice, &payload.to_string());
        assert_eq!(verify(&token, &key, NOW), Err(TokenProblem::Invalid));
    }

    #[test]
    fn a_key_signs_for_thirty_days_and_is_kept_for_thirty_more() {
        let day = 24 * 3_600_000;
        let signs = |days| TokenKey::signs_at(NOW, NOW.plus_ms(days * day));
        let is_kept = |days| TokenKey::is_kept_at(NOW, NOW.plus_ms(days * day));
        assert!(signs(0) && signs(29) && !signs(30));
        assert!(is_kept(30) && is_kept(59) && !is_kept(60));
        // Of a clock that was ahead.
        assert!(!TokenKey::signs_at(NOW, NOW.minus_ms(1)));
        assert!(TokenKey::is_kept_at(NOW, NOW.minus_ms(1)));
        assert!(!TokenKey::is_kept_at(NOW, NOW.minus_ms(31 * day)));
    }
}
