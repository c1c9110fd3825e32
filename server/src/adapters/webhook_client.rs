//! Sends webhooks: one POST on one connection, to a checked address.
//!
//! Knows neither retries nor signatures. A name is resolved once for each attempt, every address of
//! it is checked, and the connection goes to one of them, so that a second lookup cannot return
//! another address. Redirects are not followed, and no proxy is used.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, Client, RequestBuilder, Response, redirect};

use crate::domain::name::clean;
use crate::domain::outbound::{InvalidUrl, OutboundReach, OutboundUrl};

/// Most bytes of a response that are read.
const READ_BYTES: usize = 512;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Webhooks cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("failed to read the certificate authorities for webhooks from {file}: {problem}")]
    Authorities { file: String, problem: String },
    #[error("failed to create the HTTP client for webhooks: {0}")]
    Client(String),
}

/// Where webhooks may be sent, and how long that may take.
#[derive(Debug, Clone, Copy)]
pub struct WebhookLimits {
    pub reach: OutboundReach,
    /// From the name lookup to the last byte that is read.
    pub timeout: Duration,
}

/// A message that is ready to be sent.
#[derive(Debug)]
pub struct WebhookMessage {
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// The response of a receiver, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookResponse {
    pub took: Duration,
    pub status: Option<u16>,
    pub retry_after: Option<String>,
    /// A sentence; `None` if there was a response.
    pub error: Option<String>,
    /// The start of the response, without control characters.
    pub excerpt: Option<String>,
}

/// Sends webhooks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WebhookClient {
    limits: WebhookLimits,
    secure: Client,
    plain: Client,
}

impl WebhookClient {
    /// Trusts this machine's certificate authorities and those in the PEM file.
    ///
    /// # Errors
    /// [`ClientError`] describes what to fix.
    pub fn new(limits: WebhookLimits, authorities: Option<&Path>) -> Result<Self, ClientError> {
        let authorities = authorities.map(read_authorities).transpose()?.unwrap_or_default();
        let client = |is_secure: bool| {
            Client::builder()
                .user_agent(concat!("muster-webhooks/", env!("CARGO_PKG_VERSION")))
                .https_only(is_secure)
                .http1_only()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .referer(false)
                // Every attempt resolves and checks the address, which a kept connection would
                // bypass.
                .pool_max_idle_per_host(0)
                .connect_timeout(CONNECT_WITHIN.min(limits.timeout))
                .timeout(limits.timeout)
                .tls_certs_merge(authorities.clone())
                .dns_resolver(Arc::new(CheckingResolver { reach: limits.reach, is_secure }))
                .build()
                .map_err(|error| ClientError::Client(innermost(&error)))
        };
        Ok(Self { limits, secure: client(true)?, plain: client(false)? })
    }

    /// Where webhooks may be sent.
    pub fn reach(&self) -> OutboundReach {
        self.limits.reach
    }

    /// The longest time of an attempt.
    pub fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    /// Sends a message once and waits for the response.
    pub async fn send(&self, message: WebhookMessage) -> WebhookResponse {
        let started = Instant::now();
        let response = tokio::time::timeout(self.limits.timeout, self.try_send(message)).await;
        let response = response.unwrap_or_else(|_| WebhookResponse::failed(self.timeout_message()));
        WebhookResponse { took: started.elapsed(), ..response }
    }

    async fn try_send(&self, message: WebhookMessage) -> WebhookResponse {
        // The URL may not be allowed any more since the job was created.
        let url = match OutboundUrl::parse(&message.url, self.limits.reach) {
            Ok(url) => url,
            Err(invalid) => return WebhookResponse::failed(format!("the webhook URL {invalid}")),
        };
        let client = if url.is_secure() { &self.secure } else { &self.plain };
        let request = client.post(url.as_str()).header(CONTENT_TYPE, "application/json");
        let with = |request: RequestBuilder, (name, value): (&'static str, String)| {
            request.header(name, value)
        };
        let request = message.headers.into_iter().fold(request, with).body(message.body);
        match request.send().await {
            Ok(response) => self.read(response).await,
            Err(error) => WebhookResponse::failed(self.reason(&error)),
        }
    }

    async fn read(&self, mut response: Response) -> WebhookResponse {
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(str::to_owned);
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        // The status counts, even if the body cannot be read.
        while let Ok(Some(chunk)) = response.chunk().await {
            let free_bytes = READ_BYTES - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(free_bytes)]);
            if bytes.len() == READ_BYTES {
                break;
            }
        }
        let excerpt = clean(&String::from_utf8_lossy(&bytes), READ_BYTES);
        WebhookResponse {
            took: Duration::ZERO,
            status: Some(status),
            retry_after,
            error: None,
            excerpt: Some(excerpt).filter(|excerpt| !excerpt.is_empty()),
        }
    }

    fn reason(&self, error: &reqwest::Error) -> String {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(current) = cause {
            if let Some(refusal) = current.downcast_ref::<ResolveError>() {
                return refusal.to_string();
            }
            cause = current.source();
        }
        if error.is_timeout() {
            return self.timeout_message();
        }
        let what = if error.is_connect() { "connection failed" } else { "no response" };
        format!("{what}: {}", clean(&innermost(error), 256))
    }

    fn timeout_message(&self) -> String {
        format!("no response within {} ms", self.limits.timeout.as_millis())
    }
}

impl WebhookResponse {
    /// Taken over without a request.
    pub fn accepted() -> Self {
        Self { took: Duration::ZERO, status: None, retry_after: None, error: None, excerpt: None }
    }

    /// The message was not delivered, for this reason.
    pub fn failed(error: String) -> Self {
        Self {
            took: Duration::ZERO,
            status: None,
            retry_after: None,
            error: Some(error),
            excerpt: None,
        }
    }
}

/// Resolves names by the system, and returns only checked addresses.
#[derive(Debug)]
pub(super) struct CheckingResolver {
    pub reach: OutboundReach,
    pub is_secure: bool,
}

#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error("failed to resolve the name {0}: {1}")]
    Unknown(String, String),
    #[error("the name {0} has no address")]
    NoAddress(String),
    #[error("the name {0} {1}")]
    Refused(String, InvalidUrl),
}

impl Resolve for CheckingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, is_secure) = (self.reach, self.is_secure);
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let addresses: Vec<SocketAddr> = found
                .map_err(|error| ResolveError::Unknown(name.clone(), error.to_string()))?
                .collect();
            if addresses.is_empty() {
                return Err(ResolveError::NoAddress(name).into());
            }
            // One refused address refuses all, because which one is used would be random.
            for address in &addresses {
                OutboundUrl::check_address(address.ip(), is_secure, reach)
                    .map_err(|invalid| ResolveError::Refused(name.clone(), invalid))?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

pub(super) fn read_authorities(file: &Path) -> Result<Vec<Certificate>, ClientError> {
    let describe =
        |problem: String| ClientError::Authorities { file: file.display().to_string(), problem };
    let pem = std::fs::read(file).map_err(|error| describe(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| describe(innermost(&error)))?;
    if found.is_empty() {
        return Err(describe("the file contains no certificate".into()));
    }
    Ok(found)
}

/// The innermost cause of an error, without the library's wrappers.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
