//! One request of the HTTP exchange, repeated until it is answered or can't succeed.

use std::time::Duration;

use muster_protocol::CloseCode;
use muster_protocol::frame::exchange::{
    CONTENT_TYPE, ExchangeRequest, ExchangeResponse, MAX_BODY_BYTES,
};
use muster_protocol::program::backoff::Delays;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use reqwest::{Client, Proxy, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::super::{Connector, LinkError, Progress, USER_AGENT, tunnel};

/// A repeated sequence number gets the same answer, so repeating does no harm.
const ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit of the connection attempt that diagnoses an error.
const DIAGNOSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for the answer in addition to the server's own wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit of any request.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Largest problem document that is read, in bytes.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Posts bodies to one server with one key.
#[derive(Clone)]
pub struct ExchangeClient {
    client: Client,
    connector: Connector,
    url: String,
    authorization: HeaderValue,
    wait: Duration,
    progress: Progress,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum PostError {
    /// The server refused with the code and reason of a close.
    Closed {
        code: u16,
        reason: String,
    },
    /// A proxy refused the size of the body. The server has not seen the request.
    TooLarge(ExchangeRequest),
    Broken(LinkError),
}

#[derive(Deserialize)]
struct ExchangeProblem {
    code: String,
}

impl ExchangeClient {
    /// Creates a client for one server and one key.
    ///
    /// # Errors
    /// [`LinkError::Broken`] if no HTTP client can be created.
    pub fn new(
        connector: &Connector,
        key: &SecretString,
        wait: Duration,
        progress: Progress,
    ) -> Result<Self, LinkError> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(LinkError::broken("set up HTTP"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            // Each request has its own limit.
            client: client(connector, MAX_REQUEST_TIMEOUT)?,
            connector: connector.clone(),
            url: connector.endpoint.exchange_url(),
            authorization,
            wait,
            progress,
        })
    }

    /// Posts a request until it is answered, with a limited number of attempts. `upload`: how long
    /// the body may take, in addition to the usual time.
    pub async fn post(
        self,
        mut request: ExchangeRequest,
        upload: Duration,
    ) -> Result<ExchangeResponse, PostError> {
        let mut delays = Delays::new(Duration::from_millis(500), Duration::from_secs(5));
        let mut attempt = 1;
        loop {
            if let Some(interval) = self.connector.limits.keep_alive_interval() {
                let longest = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
                request.wait_ms = request.wait_ms.min(longest);
            }
            let body = bytes::Bytes::from(request.encode());
            let body_bytes = body.len();
            let started_at = tokio::time::Instant::now();
            let error = match self.attempt(body, request.sequence, upload).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::TooLarge) => {
                    self.connector.limits.refused_body(body_bytes);
                    return Err(PostError::TooLarge(request));
                }
                Err(Attempt::Retry(error)) => error,
            };
            // Not after the time limit of this side, and not if the upload took the time.
            let waited = started_at.elapsed();
            if request.parts.is_empty() && waited < Duration::from_millis(request.wait_ms.into()) {
                self.connector.limits.cut_while_waiting(waited);
            }
            if attempt == ATTEMPTS {
                return Err(PostError::Broken(self.diagnose(error).await));
            }
            attempt += 1;
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn attempt(
        &self,
        body: bytes::Bytes,
        sequence: u64,
        upload: Duration,
    ) -> Result<ExchangeResponse, Attempt> {
        let sent = self
            .client
            .post(&self.url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE_HEADER, CONTENT_TYPE)
            .timeout(self.wait + ANSWER_TIMEOUT + upload)
            .body(body)
            .send()
            .await;
        let response = sent.map_err(|error| {
            Attempt::Retry(LinkError::broken("connect to the server over HTTP")(error))
        })?;
        self.progress.note();
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.classify_refusal(status, response).await);
        }
        let bytes = read_bounded(response, MAX_BODY_BYTES).await.map_err(Attempt::Retry)?;
        let invalid = |error| Attempt::Final(PostError::Broken(error));
        let answer = ExchangeResponse::decode(&bytes)
            .map_err(LinkError::broken("read the server's answer"))
            .map_err(invalid)?;
        if answer.sequence != sequence {
            let error = std::io::Error::other("the answer is for another request");
            return Err(invalid(LinkError::broken("read the server's answer")(error)));
        }
        Ok(answer)
    }

    async fn classify_refusal(&self, status: StatusCode, response: Response) -> Attempt {
        let problem = read_bounded(response, MAX_PROBLEM_BYTES)
            .await
            .ok()
            .and_then(|bytes| serde_json::from_slice::<ExchangeProblem>(&bytes).ok());
        let problem = problem.map(|problem| problem.code).unwrap_or_default();
        if let Some(close) = CloseCode::ALL.into_iter().find(|close| close.reason() == problem) {
            let (code, reason) = (close.code(), close.reason().to_owned());
            return Attempt::Final(PostError::Closed { code, reason });
        }
        // The server's own refusal has a code.
        if status == StatusCode::PAYLOAD_TOO_LARGE && problem.is_empty() {
            return Attempt::TooLarge;
        }
        if let Some(error) = self.refused_by_proxy(status, &problem) {
            return Attempt::Final(PostError::Broken(error));
        }
        let problem = problem.chars().take(64).collect();
        let error = LinkError::Refused { action: "the exchange", status: status.as_u16(), problem };
        // The first ends by itself, and the others may come from a component that is restarting;
        // other statuses are final.
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Attempt::Retry(error),
            _ => Attempt::Final(PostError::Broken(error)),
        }
    }

    /// The proxy itself answers unencrypted requests; the server's refusals have a code.
    fn refused_by_proxy(&self, status: StatusCode, problem: &str) -> Option<LinkError> {
        let proxy = self.connector.proxy.as_ref().filter(|proxy| !proxy.is_socks())?;
        if self.connector.endpoint.is_secure {
            return None;
        }
        let is_from_proxy = match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => true,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => problem.is_empty(),
            _ => false,
        };
        let error =
            || tunnel::connect_error(proxy, &self.connector.endpoint, Some(status.as_u16())).into();
        is_from_proxy.then(error)
    }

    /// The HTTP library reports that it could not connect but not why; a second connection attempt
    /// finds the cause.
    async fn diagnose(&self, error: LinkError) -> LinkError {
        let is_unconnected = match &error {
            LinkError::Broken { source, .. } => {
                source.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect)
            }
            _ => false,
        };
        if !is_unconnected {
            return error;
        }
        match tokio::time::timeout(DIAGNOSE_TIMEOUT, self.connector.connect()).await {
            Ok(Err(error)) => error,
            // The connection works again, or fails as silently as before.
            Ok(Ok(_)) | Err(_) => error,
        }
    }
}

/// An HTTP client that uses the connector's proxy and trusted authorities.
///
/// # Errors
/// [`LinkError::Broken`] if it can't be created.
pub fn client(connector: &Connector, timeout: Duration) -> Result<Client, LinkError> {
    let broken = "set up HTTP";
    let mut builder = Client::builder()
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .pool_max_idle_per_host(2)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(USER_AGENT);
    builder = match &connector.proxy {
        // By default the library would read the environment itself.
        None => builder.no_proxy(),
        Some(proxy) => {
            let mut through =
                Proxy::all(proxy.uri().to_string()).map_err(LinkError::broken(broken))?;
            if let Some(authorization) = proxy.authorization() {
                through = through.custom_http_auth(authorization.clone());
            }
            if let Some((user, password)) = proxy.login() {
                through = through.basic_auth(user, password);
            }
            builder.proxy(through)
        }
    };
    if let Some(tls) = &connector.tls {
        builder = builder.tls_backend_preconfigured(tls.client_config());
    }
    builder.build().map_err(LinkError::broken(broken))
}

enum Attempt {
    Retry(LinkError),
    TooLarge,
    Final(PostError),
}

async fn read_bounded(mut response: Response, bound: usize) -> Result<Vec<u8>, LinkError> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(LinkError::broken("read from the server over HTTP"))?
    {
        if body.len() + chunk.len() > bound {
            let error = std::io::Error::other("the answer is larger than permitted");
            return Err(LinkError::broken("read from the server over HTTP")(error));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
