//! Verifies the identity token of a provider.

use chrono::{DateTime, Utc};
use data_encoding::BASE64URL_NOPAD;
use openidconnect::core::{
    CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    ClaimsVerificationError, ClientId, ClientSecret, IssuerUrl, Nonce, SignatureVerificationError,
};
use serde_json::Value;

use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::people::oidc_provider::{OidcClaims, OidcPreset, OidcProvider};
use crate::domain::name::clean;
use crate::domain::time::Timestamp;

/// The keys that a provider publishes.
pub type ProviderKeys = CoreJsonWebKeySet;

/// Algorithms that are accepted: signatures with a key pair. Neither `none`, nor one with the secret of the
/// client, which everybody who knows the secret could make.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 8] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// How far the clock of a provider may be ahead, and how old a token may be: 5 minutes.
const TOKEN_AGE_MS: u64 = 5 * 60_000;
/// Characters of a name that are kept.
const MAX_PERSON_NAME: usize = 128;
/// Bytes of the subject of a token (OpenID Connect Core 2).
const MAX_SUBJECT_BYTES: usize = 255;

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The provider may have made the key since its keys were read.
    #[error("the token was signed with a key that the provider does not publish")]
    UnknownKey,
    #[error("the token can't be read")]
    Unreadable(#[source] serde_json::Error),
    #[error("the token is not valid")]
    Invalid(#[source] ClaimsVerificationError),
    #[error("the configured issuer is no URL")]
    Issuer,
    #[error("the token {0}")]
    Claim(&'static str),
}

/// What a token must be.
pub struct ExpectedToken<'a> {
    pub provider: &'a OidcProvider,
    pub client_secret: &'a str,
    pub keys: &'a ProviderKeys,
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// What the token says, if the provider signed it for this server, this sign-in and this moment.
///
/// # Errors
/// [`TokenError`].
pub fn verify(text: &str, expected: ExpectedToken<'_>) -> Result<OidcClaims, TokenError> {
    let ExpectedToken { provider, client_secret, keys, nonce, now } = expected;
    let token: CoreIdToken = text.parse().map_err(TokenError::Unreadable)?;
    let issuer = IssuerUrl::new(provider.issuer.clone()).map_err(|_| TokenError::Issuer)?;
    let instant = |at: Timestamp| DateTime::<Utc>::from_timestamp_millis(at.0).unwrap_or_default();
    let bounds = (instant(now.minus_ms(TOKEN_AGE_MS)), instant(now.plus_ms(TOKEN_AGE_MS)));
    let verifier = CoreIdTokenVerifier::new_confidential_client(
        ClientId::new(provider.client_id.clone()),
        ClientSecret::new(client_secret.to_owned()),
        issuer,
        keys.clone(),
    )
    .set_allowed_algs(ALGORITHMS)
    .set_time_fn(move || instant(now))
    .set_issue_time_verifier_fn(move |at| match (bounds.0..=bounds.1).contains(&at) {
        true => Ok(()),
        false => Err("the token was not issued just now".to_owned()),
    });
    let claims =
        token.claims(&verifier, &Nonce::new(nonce.to_owned())).map_err(|error| match error {
            ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            ) => TokenError::UnknownKey,
            error => TokenError::Invalid(error),
        })?;
    let subject = claims.subject().to_string();
    if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES || !subject.is_ascii() {
        return Err(TokenError::Claim("has an invalid subject"));
    }
    let all = payload(text).ok_or(TokenError::Claim("has no claims"))?;
    if all.get("azp").and_then(Value::as_str).is_some_and(|party| party != provider.client_id) {
        return Err(TokenError::Claim("was issued to another client"));
    }
    let name = all.get("name").and_then(Value::as_str).map(|name| clean(name, MAX_PERSON_NAME));
    let authenticated_at = claims.auth_time().map(|at| Timestamp(at.timestamp_millis()));
    Ok(OidcClaims {
        subject,
        email: verified_email(provider, &all),
        name: name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
        values: values(all.get(&provider.role_claim)),
        authenticated_at,
    })
}

/// The claims of a token whose signature was verified.
fn payload(text: &str) -> Option<Value> {
    let part = text.split('.').nth(1)?;
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok()
}

/// Entra lets each directory claim any address, and says with `xms_edov` that the domain is its own.
/// A provider with `domains` proves only addresses in them, even if it names others.
fn verified_email(provider: &OidcProvider, claims: &Value) -> Option<EmailAddress> {
    let is_true = |claim: &str| match claims.get(claim) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => text == "true" || text == "1",
        Some(Value::Number(number)) => number.as_u64() == Some(1),
        _ => false,
    };
    let is_verified = match provider.preset {
        OidcPreset::Entra => is_true("xms_edov"),
        OidcPreset::Google | OidcPreset::Generic => is_true("email_verified"),
    };
    let email = claims.get("email").and_then(Value::as_str).filter(|_| is_verified)?;
    EmailAddress::parse(email).ok().filter(|email| provider.proves(email))
}

/// A claim with one text or several.
fn values(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}
