//! One request, repeated until it is answered or there is no hope.

use std::time::Duration;

use muster_protocol::CloseCode;
use muster_protocol::backoff::Delays;
use muster_protocol::frame::exchange::{
    CONTENT_TYPE, ExchangeRequest, ExchangeResponse, MAX_BODY_BYTES,
};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use reqwest::{Client, Proxy, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::super::{LinkError, USER_AGENT, Way, tunnel};

/// A repeated sequence gets the same answer, so that repeating does no harm.
const ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// For a second look at a way that could not be gone.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// Beyond the server's own waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest problem document that is read.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Posts bodies to one server with one key.
#[derive(Clone)]
pub struct Poster {
    client: Client,
    way: Way,
    url: String,
    authorization: HeaderValue,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The server said no, in the words of a close.
    Closed {
        code: u16,
        reason: String,
    },
    Broken(LinkError),
}

#[derive(Deserialize)]
struct Problem {
    code: String,
}

impl Poster {
    /// # Errors
    /// [`LinkError::Broken`] if no client can be made.
    pub fn new(way: &Way, key: &SecretString, wait: Duration) -> Result<Self, LinkError> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(LinkError::broken("set up HTTP"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: client(way, wait + ANSWER_TIMEOUT)?,
            way: way.clone(),
            url: way.endpoint.exchange_url(),
            authorization,
        })
    }

    /// Posts a request until it is answered, for a bounded number of times.
    pub async fn post(self, request: ExchangeRequest) -> Result<ExchangeResponse, Failure> {
        let body = bytes::Bytes::from(request.encode());
        let mut delays = Delays::new(Duration::from_millis(500), Duration::from_secs(5));
        let mut attempt = 1;
        loop {
            let error = match self.attempt(body.clone(), request.sequence).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::Again(error)) => error,
            };
            if attempt == ATTEMPTS {
                return Err(Failure::Broken(self.explained(error).await));
            }
            attempt += 1;
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn attempt(
        &self,
        body: bytes::Bytes,
        sequence: u64,
    ) -> Result<ExchangeResponse, Attempt> {
        let sent = self
            .client
            .post(&self.url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE_HEADER, CONTENT_TYPE)
            .body(body)
            .send()
            .await;
        let response = sent.map_err(|error| {
            Attempt::Again(LinkError::broken("reach the server over HTTP")(error))
        })?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.refused(status, response).await);
        }
        let bytes = read_bounded(response, MAX_BODY_BYTES).await.map_err(Attempt::Again)?;
        let unfit = |error| Attempt::Final(Failure::Broken(error));
        let answer = ExchangeResponse::decode(&bytes)
            .map_err(LinkError::broken("read the answer"))
            .map_err(unfit)?;
        if answer.sequence != sequence {
            let error = std::io::Error::other("it answers another request");
            return Err(unfit(LinkError::broken("read the answer")(error)));
        }
        Ok(answer)
    }

    async fn refused(&self, status: StatusCode, response: Response) -> Attempt {
        let problem = read_bounded(response, MAX_PROBLEM_BYTES)
            .await
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Problem>(&bytes).ok());
        let problem = problem.map(|problem| problem.code).unwrap_or_default();
        if let Some(close) = CloseCode::ALL.into_iter().find(|close| close.reason() == problem) {
            let (code, reason) = (close.code(), close.reason().to_owned());
            return Attempt::Final(Failure::Closed { code, reason });
        }
        if let Some(error) = self.refused_by_proxy(status, &problem) {
            return Attempt::Final(Failure::Broken(error));
        }
        let problem = problem.chars().take(64).collect();
        let error = LinkError::Refused { action: "the exchange", status: status.as_u16(), problem };
        // Between the server and here something may be restarting; anything else is meant.
        match status {
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Attempt::Again(error),
            _ => Attempt::Final(Failure::Broken(error)),
        }
    }

    /// Requests in the clear are answered by the proxy itself; the server's refusals have a code.
    fn refused_by_proxy(&self, status: StatusCode, problem: &str) -> Option<LinkError> {
        let proxy = self.way.proxy.as_ref().filter(|_| !self.way.endpoint.is_secure)?;
        let is_proxys = match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => true,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => problem.is_empty(),
            _ => false,
        };
        let obstacle = || tunnel::obstacle(proxy, &self.way.endpoint, Some(status.as_u16())).into();
        is_proxys.then(obstacle)
    }

    /// The HTTP library says that it could not connect, but not what stood in the way: going the
    /// way once more does.
    async fn explained(&self, error: LinkError) -> LinkError {
        let is_unconnected = match &error {
            LinkError::Broken { source, .. } => {
                source.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect)
            }
            _ => false,
        };
        if !is_unconnected {
            return error;
        }
        match tokio::time::timeout(LOOK_TIMEOUT, self.way.open()).await {
            Ok(Err(obstacle)) => obstacle,
            // It has come back meanwhile, or is as silent as before.
            Ok(Ok(_)) | Err(_) => error,
        }
    }
}

/// An HTTP client that goes this way and no other.
///
/// # Errors
/// [`LinkError::Broken`] if it can't be made.
pub fn client(way: &Way, timeout: Duration) -> Result<Client, LinkError> {
    let broken = "set up HTTP";
    let mut builder = Client::builder()
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .pool_max_idle_per_host(2)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(USER_AGENT);
    builder = match &way.proxy {
        // It would look into the environment by itself.
        None => builder.no_proxy(),
        Some(proxy) => {
            let mut through =
                Proxy::all(proxy.uri().to_string()).map_err(LinkError::broken(broken))?;
            if let Some(authorization) = proxy.authorization() {
                through = through.custom_http_auth(authorization.clone());
            }
            builder.proxy(through)
        }
    };
    if let Some(tls) = &way.tls {
        builder = builder.tls_backend_preconfigured(tls.client_config());
    }
    builder.build().map_err(LinkError::broken(broken))
}

enum Attempt {
    Again(LinkError),
    Final(Failure),
}

async fn read_bounded(mut response: Response, bound: usize) -> Result<Vec<u8>, LinkError> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(LinkError::broken("read from the server over HTTP"))?
    {
        if body.len() + chunk.len() > bound {
            let error = std::io::Error::other("it is larger than any that fits");
            return Err(LinkError::broken("read from the server over HTTP")(error));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
