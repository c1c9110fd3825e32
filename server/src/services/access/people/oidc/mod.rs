//! Single sign-on with OpenID Connect: the code flow with PKCE, state and nonce.

mod attempt;
mod identities;
mod joining;
mod provider_cache;

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::Quota;
use serde_json::json;
use zeroize::Zeroizing;

pub use self::attempt::OIDC_ATTEMPT_MS;
use self::attempt::OidcAttempt;
use self::provider_cache::{BroughtCode, KnownProvider};
use super::attempt_limiter::{AttemptLimiter, Refusal};
use super::confirmation::require_confirmed;
use super::session_start::{SessionStart, UNCONFIRMED};
use super::sign_in::{SessionTokens, SignIn};
use crate::adapters::oidc::client::OidcClient;
use crate::domain::access::people::oidc_provider::{AuthorizationRequest, OidcClaims, ReturnPath};
use crate::domain::ids::SessionId;
use crate::domain::source::ClientSource;
use crate::domain::time::Timestamp;
use crate::services::access::caller::{Caller, Client};
use crate::services::error::{Result, ServiceError};

/// Sign-ins that may begin, and those that may come back, in a minute from one address.
const OIDC_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// How long ago a person may have proven itself at the provider, to count as a recent proof: 5 minutes.
const PROOF_AGE_MS: u64 = 5 * 60_000;

const UNKNOWN_PROVIDER: ServiceError = ServiceError::NotFound("provider");
const WRONG_STATE: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_state",
    detail: "this browser began no such sign-in, or it took more than 10 minutes; start again",
};

/// The use cases of single sign-on.
#[derive(Debug, Clone)]
pub struct OidcSignIn {
    sign_in: SignIn,
    providers: Arc<[KnownProvider]>,
    limiter: AttemptLimiter<ClientSource>,
}

/// A provider, for people.
#[derive(Debug, Clone)]
pub struct OfferedProvider {
    pub name: String,
    pub title: String,
}

/// How a sign-in begins.
#[derive(Debug, Clone, Copy)]
pub struct OidcStart<'a> {
    pub provider: &'a str,
    /// The path of this server behind its origin.
    pub callback: &'a str,
    pub return_to: Option<&'a str>,
    /// Ask the provider to prove the person again.
    pub confirms: bool,
}

/// Where the browser goes, and the cookie that it keeps.
pub struct BegunSignIn {
    pub location: String,
    pub cookie: Zeroizing<String>,
}

/// What a browser brings back.
pub struct OidcReturn<'a> {
    pub provider: &'a str,
    pub cookie: &'a str,
    pub state: &'a str,
    /// Or the provider refused.
    pub code: Option<&'a str>,
    pub issuer: Option<&'a str>,
}

/// A sign-in that is complete.
pub struct CompletedSignIn {
    /// `None` if an identity was linked.
    pub tokens: Option<SessionTokens>,
    pub return_to: String,
}

impl OidcSignIn {
    pub(in crate::services) fn new(sign_in: SignIn, clients: Vec<OidcClient>) -> Self {
        let providers = clients.into_iter().map(KnownProvider::new).collect();
        let refusal = Refusal {
            code: "too_many_attempts",
            detail: "too many sign-ins came from this address; wait a moment",
        };
        let limiter = AttemptLimiter::new(Quota::per_minute(OIDC_PER_MINUTE), refusal);
        Self { sign_in, providers, limiter }
    }

    /// The providers that the operator configured.
    pub fn offered(&self) -> Vec<OfferedProvider> {
        let offered = |provider: &KnownProvider| {
            let provider = provider.settings();
            OfferedProvider { name: provider.name.clone(), title: provider.title.clone() }
        };
        self.providers.iter().map(offered).collect()
    }

    fn provider(&self, name: &str) -> Result<&KnownProvider> {
        let found = self.providers.iter().find(|provider| provider.settings().name == name);
        found.ok_or(UNKNOWN_PROVIDER)
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// 404 for an unknown provider, 422 for a path to return to; 503 `provider_unavailable`;
    /// [`ServiceError::RateLimited`].
    pub async fn start(&self, client: &Client, start: OidcStart<'_>) -> Result<BegunSignIn> {
        self.provider(start.provider)?;
        client.limited_as.map_or(Ok(()), |source| self.limiter.attempt(&source))?;
        self.begin(start, None).await
    }

    /// Begins to give the account of the caller an identity at the provider.
    ///
    /// # Errors
    /// 403 `session_required` for an API key, 403 `confirmation_required` without a recent proof of the
    /// password, 403 `code_required` and 422 `wrong_code` for a person with a second factor; as
    /// [`OidcSignIn::start`].
    pub async fn link(
        &self,
        caller: &Caller,
        start: OidcStart<'_>,
        code: Option<Zeroizing<String>>,
    ) -> Result<BegunSignIn> {
        let live = require_confirmed(&self.sign_in.store, &self.sign_in.clock, caller).await?;
        self.provider(start.provider)?;
        self.sign_in.require_factor(&live, code).await?;
        self.begin(start, Some(live.session.id)).await
    }

    async fn begin(&self, start: OidcStart<'_>, links: Option<SessionId>) -> Result<BegunSignIn> {
        let provider = self.provider(start.provider)?;
        let return_to = ReturnPath::parse(start.return_to.unwrap_or("/")).ok_or_else(|| {
            ServiceError::invalid_field(
                "return_to",
                "must be a path of this server, such as /agents",
            )
        })?;
        let endpoint = provider.authorization_endpoint().await?;
        let redirect_uri = start.callback.to_owned();
        let now = self.sign_in.clock.now();
        let mut attempt = OidcAttempt::new(start.provider, redirect_uri, &return_to, now)?;
        (attempt.links, attempt.confirms) = (links, start.confirms);
        let request = AuthorizationRequest {
            redirect_uri: &attempt.redirect_uri,
            state: &attempt.state,
            nonce: &attempt.nonce,
            challenge: &attempt.challenge(),
            confirms: start.confirms,
        };
        // The endpoint was checked when the document was read.
        let location = provider.settings().authorization_url(&endpoint, request);
        let location = location.ok_or(UNKNOWN_PROVIDER)?;
        let cookie = attempt.seal(&self.sign_in.secret_box)?;
        Ok(BegunSignIn { location, cookie })
    }

    /// Completes a sign-in.
    ///
    /// # Errors
    /// 401 `invalid_state` for a browser that did not begin it; 401 `provider_refused`; 403 `not_invited`;
    /// 409 `identity_not_linked`; 503 `provider_unavailable`; [`ServiceError::RateLimited`].
    pub async fn complete(
        &self,
        client: &Client,
        brought: OidcReturn<'_>,
    ) -> Result<CompletedSignIn> {
        let provider = self.provider(brought.provider)?;
        client.limited_as.map_or(Ok(()), |source| self.limiter.attempt(&source))?;
        let now = self.sign_in.clock.now();
        let attempt = OidcAttempt::open(
            brought.cookie,
            brought.provider,
            brought.state,
            &self.sign_in.secret_box,
            now,
        );
        let attempt = attempt.ok_or(WRONG_STATE)?;
        let Some(code) = brought.code else {
            return Err(ServiceError::Forbidden {
                code: "provider_denied",
                detail: "the provider refused the sign-in, or you cancelled it".into(),
            });
        };
        let claims = provider
            .claims(BroughtCode {
                code,
                issuer: brought.issuer,
                verifier: &attempt.verifier,
                redirect_uri: &attempt.redirect_uri,
                nonce: &attempt.nonce,
                now,
            })
            .await?;
        let return_to = attempt.return_to.clone();
        if let Some(session_id) = attempt.links {
            self.complete_link(client, provider, &claims, session_id).await?;
            return Ok(CompletedSignIn { tokens: None, return_to });
        }
        let tokens = self.create_session(client, provider, &claims, attempt.confirms).await?;
        Ok(CompletedSignIn { tokens: Some(tokens), return_to })
    }

    async fn create_session(
        &self,
        client: &Client,
        provider: &KnownProvider,
        claims: &OidcClaims,
        confirms: bool,
    ) -> Result<SessionTokens> {
        let joined = self.joined(provider.settings(), claims).await?;
        let now = self.sign_in.clock.now();
        let is_recent =
            |at: &Timestamp| *at <= now.plus_ms(PROOF_AGE_MS) && now.ms_since(*at) <= PROOF_AGE_MS;
        let proven_at = claims.authenticated_at.filter(is_recent).filter(|_| confirms);
        let start = SessionStart {
            detail: json!({"provider": provider.settings().name, "identity_id": joined.identity_id}),
            ..SessionStart::confirmed(proven_at.map_or(UNCONFIRMED, |at| at.min(now)))
        };
        let membership = (&joined.member, &joined.tenant);
        let made = self.sign_in.create_session(client, &joined.user, membership, start).await?;
        Ok(made.tokens)
    }
}
