//! A provider with what is known of it: its discovery document and its keys, which are read when they are
//! needed and kept for an hour.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::adapters::oidc::client::{
    CodeExchange, OidcClient, OidcError, ProviderDocument, read_client_secret,
};
use crate::adapters::oidc::token::{ExpectedToken, ProviderKeys, TokenError, verify};
use crate::domain::access::people::oidc_provider::{OidcClaims, OidcProvider};
use crate::domain::time::Timestamp;
use crate::services::error::ServiceError;

/// How long the document and the keys of a provider are kept.
const PROVIDER_KEPT_FOR: Duration = Duration::from_secs(3_600);
/// Shortest time between two reads because of an unknown key.
const KEY_READ_INTERVAL: Duration = Duration::from_secs(60);

const UNAVAILABLE: ServiceError = ServiceError::Busy {
    code: "provider_unavailable",
    detail: "the provider of the sign-in does not answer as expected; try again, or ask the operator of the server",
};
const REFUSED: ServiceError = ServiceError::Unauthenticated {
    code: "provider_refused",
    detail: "the provider did not confirm the sign-in; start again",
};

/// A provider. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct KnownProvider(Arc<KnownProviderInner>);

#[derive(Debug)]
struct KnownProviderInner {
    client: OidcClient,
    known: Mutex<Option<CachedProvider>>,
}

#[derive(Debug, Clone)]
struct CachedProvider {
    document: Arc<ProviderDocument>,
    keys: Arc<ProviderKeys>,
    read_at: Instant,
}

/// A code that a browser brought, and what its sign-in began with.
pub(super) struct BroughtCode<'a> {
    pub code: &'a str,
    /// Of RFC 9207.
    pub issuer: Option<&'a str>,
    pub verifier: &'a str,
    pub redirect_uri: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

impl KnownProvider {
    pub(super) fn new(client: OidcClient) -> Self {
        Self(Arc::new(KnownProviderInner { client, known: Mutex::default() }))
    }

    pub(super) fn settings(&self) -> &OidcProvider {
        &self.0.client.provider
    }

    /// Where browsers are sent.
    ///
    /// # Errors
    /// 503 `provider_unavailable`.
    pub(super) async fn authorization_endpoint(&self) -> Result<String, ServiceError> {
        Ok(self.known(PROVIDER_KEPT_FOR).await?.document.authorization_endpoint.clone())
    }

    /// What the provider says about the person of a code.
    ///
    /// # Errors
    /// 401 `provider_refused`, 503 `provider_unavailable`.
    pub(super) async fn claims(
        &self,
        brought: BroughtCode<'_>,
    ) -> Result<OidcClaims, ServiceError> {
        let known = self.known(PROVIDER_KEPT_FOR).await?;
        let must_name = known.document.authorization_response_iss_parameter_supported;
        let is_right = brought.issuer.map_or(!must_name, |issuer| issuer == known.document.issuer);
        if !is_right {
            return Err(REFUSED);
        }
        let secret = read_secret(&self.settings().client_secret_file).await?;
        let exchange = CodeExchange {
            code: brought.code,
            verifier: brought.verifier,
            redirect_uri: brought.redirect_uri,
            client_secret: &secret,
        };
        let token = self.0.client.exchange(&known.document, exchange).await;
        let token = token.map_err(|error| self.failed(&error))?;
        let check = |keys: &ProviderKeys| {
            let provider = self.settings();
            let (nonce, now) = (brought.nonce, brought.now);
            verify(&token, ExpectedToken { provider, client_secret: &secret, keys, nonce, now })
        };
        let checked = match check(&known.keys) {
            Err(TokenError::UnknownKey) => check(&self.known(KEY_READ_INTERVAL).await?.keys),
            checked => checked,
        };
        checked.map_err(|error| {
            let error = muster_protocol::error_chain(&error);
            tracing::warn!(provider = self.settings().name, error, "refused an identity token");
            REFUSED
        })
    }

    /// Document and keys that are younger than this.
    async fn known(&self, max_age: Duration) -> Result<CachedProvider, ServiceError> {
        let mut known = self.0.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.read_at.elapsed() < max_age) {
            return Ok(known.clone());
        }
        let read = async {
            let document = self.0.client.discover().await?;
            let keys = self.0.client.keys(&document.jwks_uri).await?;
            Ok::<_, OidcError>((document, keys))
        };
        let (document, keys) = read.await.map_err(|error| self.failed(&error))?;
        let (document, keys) = (Arc::new(document), Arc::new(keys));
        Ok(known.insert(CachedProvider { document, keys, read_at: Instant::now() }).clone())
    }

    fn failed(&self, error: &OidcError) -> ServiceError {
        if matches!(error, OidcError::Refused) {
            return REFUSED;
        }
        let text = muster_protocol::error_chain(error);
        tracing::warn!(provider = self.settings().name, error = text, "failed to ask a provider");
        UNAVAILABLE
    }
}

/// Read for each sign-in, so that a new secret needs no restart.
async fn read_secret(file: &Path) -> Result<Zeroizing<String>, ServiceError> {
    let text = read_client_secret(file).await;
    text.map_err(|error| {
        tracing::error!(file = %file.display(), %error, "failed to read the secret of a provider");
        UNAVAILABLE
    })
}
