//! Webhooks on their way: one POST over one connection, to an address that was judged.
//!
//! Knows no retries and no signatures. A name is resolved once for each attempt, every address that
//! it stands for is judged, and the connection goes to one of those: there is no second look-up that
//! could say something else. Redirects are not followed, and no proxy is asked.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, redirect};

use crate::domain::integrations::webhook::{InvalidUrl, Reach, WebhookUrl};
use crate::domain::name::clean;

/// Bytes of an answer that are read.
const READ_BYTES: usize = 512;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Why webhooks can't be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("read the authorities of webhooks from {file}: {problem}")]
    Authorities { file: String, problem: String },
    #[error("prepare the sending of webhooks: {0}")]
    Client(String),
}

/// Where webhooks may go, and how long they may take.
#[derive(Debug, Clone, Copy)]
pub struct WebhookLimits {
    pub reach: Reach,
    /// From the look-up of the name to the last byte that is read.
    pub timeout: Duration,
}

/// A message that is ready to go.
#[derive(Debug)]
pub struct Message {
    pub url: String,
    pub id: String,
    /// Seconds since the Unix epoch.
    pub timestamp_s: i64,
    /// Signatures, with a space between each two.
    pub signature: String,
    /// JSON.
    pub body: Vec<u8>,
}

/// What a receiver has said, or why it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub took: Duration,
    pub status: Option<u16>,
    pub retry_after: Option<String>,
    /// A sentence; absent if there was an answer.
    pub error: Option<String>,
    /// The beginning of the answer, cleaned.
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
    /// Trusts what this machine trusts, and the authorities in this PEM file.
    ///
    /// # Errors
    /// [`ClientError`] says what to mend.
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
                // Every attempt resolves and judges anew: a kept connection would pass that by.
                .pool_max_idle_per_host(0)
                .connect_timeout(CONNECT_WITHIN.min(limits.timeout))
                .timeout(limits.timeout)
                .tls_certs_merge(authorities.clone())
                .dns_resolver(Arc::new(JudgingResolver { reach: limits.reach, is_secure }))
                .build()
                .map_err(|error| ClientError::Client(innermost(&error)))
        };
        Ok(Self { limits, secure: client(true)?, plain: client(false)? })
    }

    /// Where webhooks may go.
    pub fn reach(&self) -> Reach {
        self.limits.reach
    }

    /// Sends a message once and waits for the answer.
    pub async fn send(&self, message: Message) -> Reply {
        let started = Instant::now();
        let reply = tokio::time::timeout(self.limits.timeout, self.try_send(message)).await;
        let reply = reply.unwrap_or_else(|_| Reply::failed(self.too_late()));
        Reply { took: started.elapsed(), ..reply }
    }

    async fn try_send(&self, message: Message) -> Reply {
        // What was allowed when it was asked for may be no more.
        let url = match WebhookUrl::parse(&message.url, self.limits.reach) {
            Ok(url) => url,
            Err(odd) => return Reply::failed(format!("the address {odd}")),
        };
        let client = if url.is_secure() { &self.secure } else { &self.plain };
        let request = client
            .post(url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp_s)
            .header("webhook-signature", message.signature)
            .body(message.body);
        match request.send().await {
            Ok(response) => self.read(response).await,
            Err(error) => Reply::failed(self.reason(&error)),
        }
    }

    async fn read(&self, mut response: Response) -> Reply {
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(str::to_owned);
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        // The status counts, whatever becomes of the rest.
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = READ_BYTES - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if bytes.len() == READ_BYTES {
                break;
            }
        }
        let excerpt = clean(&String::from_utf8_lossy(&bytes), READ_BYTES);
        Reply {
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
            return self.too_late();
        }
        let what = if error.is_connect() { "no connection" } else { "no answer" };
        format!("{what}: {}", clean(&innermost(error), 256))
    }

    fn too_late(&self) -> String {
        format!("no answer within {} ms", self.limits.timeout.as_millis())
    }
}

impl Reply {
    /// The message did not get there; why.
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

/// Resolves names by the system, and gives out addresses that were judged, all of them.
#[derive(Debug)]
struct JudgingResolver {
    reach: Reach,
    is_secure: bool,
}

#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error("the name {0} can't be resolved: {1}")]
    Unknown(String, String),
    #[error("the name {0} stands for no address")]
    NoAddress(String),
    #[error("the name {0} {1}")]
    Refused(String, InvalidUrl),
}

impl Resolve for JudgingResolver {
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
            // One that does not fit spoils them all: which one is called would be chance.
            for address in &addresses {
                WebhookUrl::judge(address.ip(), is_secure, reach)
                    .map_err(|odd| ResolveError::Refused(name.clone(), odd))?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn read_authorities(file: &Path) -> Result<Vec<Certificate>, ClientError> {
    let describe =
        |problem: String| ClientError::Authorities { file: file.display().to_string(), problem };
    let pem = std::fs::read(file).map_err(|error| describe(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| describe(innermost(&error)))?;
    if found.is_empty() {
        return Err(describe("it holds no certificate".into()));
    }
    Ok(found)
}

/// What lies at the bottom of an error, without the library's words around it.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
