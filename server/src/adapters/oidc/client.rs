//! Talks to a provider of single sign-on: its discovery document, its keys and its tokens.
//!
//! Every answer is bounded in time and size, redirects are not followed, and every address is checked as
//! those of webhooks are. Knows no accounts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::adapters::webhook_client::{CheckingResolver, ClientError, read_authorities};
use crate::domain::access::people::oidc_provider::OidcProvider;
use crate::domain::outbound::{OutboundReach, OutboundUrl};

/// From the name lookup to the last byte.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const MAX_PROVIDER_BYTES: usize = 256 * 1024;

/// Longest secret of a client.
const MAX_CLIENT_SECRET_BYTES: usize = 4_096;

/// Why a provider gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("failed to reach {0}")]
    Unreachable(String, #[source] reqwest::Error),
    #[error("{0} answered with status {1}")]
    Status(String, u16),
    #[error("{0} answered with more than {MAX_PROVIDER_BYTES} bytes")]
    TooLarge(String),
    #[error("the answer of {0} is not as expected")]
    Answer(String, #[source] serde_json::Error),
    #[error("{0} names the issuer {1}, which is not the configured one")]
    Issuer(String, String),
    #[error("the provider names an address that can't be used: {0}")]
    Address(String),
    #[error("the provider refused the code")]
    Refused,
}

/// The discovery document, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
pub struct ProviderDocument {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// The provider names itself in its answers (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// What a code is exchanged with.
pub struct CodeExchange<'a> {
    pub code: &'a str,
    pub verifier: &'a str,
    pub redirect_uri: &'a str,
    pub client_secret: &'a str,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

/// A client of one provider. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OidcClient {
    pub provider: OidcProvider,
    client: Client,
}

impl OidcClient {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`ClientError`] describes what to fix.
    pub fn new(provider: OidcProvider) -> Result<Self, ClientError> {
        let authorities = provider.ca_file.as_deref().map(|file: &Path| read_authorities(file));
        let is_secure = provider.reach == OutboundReach::Public;
        let client = Client::builder()
            .user_agent(concat!("muster-server/", env!("CARGO_PKG_VERSION")))
            .https_only(is_secure)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .pool_max_idle_per_host(0)
            .timeout(PROVIDER_TIMEOUT)
            .tls_certs_merge(authorities.transpose()?.unwrap_or_default())
            .dns_resolver(Arc::new(CheckingResolver { reach: provider.reach, is_secure }))
            .build()
            .map_err(|error| ClientError::Client(error.to_string()))?;
        Ok(Self { provider, client })
    }

    /// The discovery document, which must be of the configured issuer.
    ///
    /// # Errors
    /// [`OidcError`].
    pub async fn discover(&self) -> Result<ProviderDocument, OidcError> {
        let issuer = &self.provider.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document: ProviderDocument = self.get(&url).await?;
        if document.issuer != *issuer {
            return Err(OidcError::Issuer(url, document.issuer));
        }
        // Browsers are sent there.
        self.checked(&document.authorization_endpoint)?;
        Ok(document)
    }

    /// The keys that sign the provider's tokens.
    ///
    /// # Errors
    /// [`OidcError`].
    pub async fn keys<T: DeserializeOwned>(&self, url: &str) -> Result<T, OidcError> {
        self.get(url).await
    }

    /// The identity token for a code.
    ///
    /// # Errors
    /// [`OidcError::Refused`] for a code that is wrong, used or has expired; other [`OidcError`].
    pub async fn exchange(
        &self,
        document: &ProviderDocument,
        with: CodeExchange<'_>,
    ) -> Result<Zeroizing<String>, OidcError> {
        let methods = document.token_endpoint_auth_methods_supported.as_deref();
        let is_basic = methods.is_none_or(|all| all.iter().any(|one| one == "client_secret_basic"));
        let url = &document.token_endpoint;
        let mut request = self.client.post(self.checked(url)?);
        if is_basic {
            let encoded = |text: &str| -> String {
                form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let id = encoded(&self.provider.client_id);
            request = request.basic_auth(id, Some(encoded(with.client_secret)));
        }
        let request = request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.form(&with, is_basic));
        match self.read::<TokenAnswer>(url, request).await {
            Ok(answer) => Ok(answer.id_token.into()),
            // RFC 6749 5.2: also for a wrong secret of this server, which the log shows.
            Err(OidcError::Status(url, status @ 400..=401)) => {
                tracing::warn!(url, status, "a provider refused a code");
                Err(OidcError::Refused)
            }
            Err(error) => Err(error),
        }
    }

    fn form(&self, with: &CodeExchange<'_>, is_basic: bool) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", with.code)
            .append_pair("redirect_uri", with.redirect_uri)
            .append_pair("code_verifier", with.verifier);
        if !is_basic {
            form.append_pair("client_id", &self.provider.client_id)
                .append_pair("client_secret", with.client_secret);
        }
        form.finish()
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, OidcError> {
        self.read(url, self.client.get(self.checked(url)?)).await
    }

    fn checked(&self, url: &str) -> Result<String, OidcError> {
        let checked = OutboundUrl::parse(url, self.provider.reach);
        let checked = checked.map_err(|invalid| OidcError::Address(format!("{url} {invalid}")))?;
        Ok(checked.as_str().to_owned())
    }

    async fn read<T: DeserializeOwned>(
        &self,
        url: &str,
        request: RequestBuilder,
    ) -> Result<T, OidcError> {
        let unreachable = |error| OidcError::Unreachable(url.to_owned(), error);
        let request = request.header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_PROVIDER_BYTES {
                return Err(OidcError::TooLarge(url.to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.as_u16() != 200 {
            return Err(OidcError::Status(url.to_owned(), status.as_u16()));
        }
        serde_json::from_slice(&bytes).map_err(|error| OidcError::Answer(url.to_owned(), error))
    }
}

/// Reads the secret of this server at a provider, without the line break at its end.
///
/// # Errors
/// The system's, also for a file that is too long or holds no text.
pub async fn read_client_secret(file: &Path) -> std::io::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(tokio::fs::read(file).await?);
    let text =
        std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= MAX_CLIENT_SECRET_BYTES);
    let text = text.map(|text| text.trim_end_matches(['\r', '\n'])).filter(|text| !text.is_empty());
    let problem = || std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds no secret");
    Ok(Zeroizing::new(text.ok_or_else(problem)?.to_owned()))
}
