//! One request, repeated until it is answered or there is no hope.

use std::time::Duration;

use muster_protocol::CloseCode;
use muster_protocol::backoff::Delays;
use muster_protocol::frame::exchange::{Answer, CONTENT_TYPE, MAX_BODY_BYTES, Request};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::super::endpoint::Endpoint;
use super::super::{LinkError, TlsSetup};

/// A repeated sequence gets the same answer, so that repeating does no harm.
const ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Beyond the server's own waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest problem document that is read.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Posts bodies to one server with one key.
#[derive(Clone)]
pub struct Poster {
    client: Client,
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
    pub fn new(
        endpoint: &Endpoint,
        key: &SecretString,
        tls: Option<&TlsSetup>,
        wait: Duration,
    ) -> Result<Self, LinkError> {
        let broken = "set up HTTP";
        let mut builder = Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(wait + ANSWER_TIMEOUT)
            .pool_max_idle_per_host(2)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("muster-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(tls) = tls {
            builder = builder.tls_backend_preconfigured(tls.client_config());
        }
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(LinkError::broken(broken))?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: builder.build().map_err(LinkError::broken(broken))?,
            url: endpoint.exchange_url(),
            authorization,
        })
    }

    /// Posts a request until it is answered, for a bounded number of times.
    pub async fn post(self, request: Request) -> Result<Answer, Failure> {
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
                return Err(Failure::Broken(error));
            }
            attempt += 1;
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn attempt(&self, body: bytes::Bytes, sequence: u64) -> Result<Answer, Attempt> {
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
            return Err(refused(status, response).await);
        }
        let bytes = read_bounded(response, MAX_BODY_BYTES).await.map_err(Attempt::Again)?;
        let unfit = |error| Attempt::Final(Failure::Broken(error));
        let answer =
            Answer::decode(&bytes).map_err(LinkError::broken("read the answer")).map_err(unfit)?;
        if answer.sequence != sequence {
            let error = std::io::Error::other("it answers another request");
            return Err(unfit(LinkError::broken("read the answer")(error)));
        }
        Ok(answer)
    }
}

enum Attempt {
    Again(LinkError),
    Final(Failure),
}

async fn refused(status: StatusCode, response: Response) -> Attempt {
    let problem = read_bounded(response, MAX_PROBLEM_BYTES)
        .await
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Problem>(&bytes).ok());
    let problem = problem.map(|problem| problem.code).unwrap_or_default();
    if let Some(close) = CloseCode::ALL.into_iter().find(|close| close.reason() == problem) {
        let (code, reason) = (close.code(), close.reason().to_owned());
        return Attempt::Final(Failure::Closed { code, reason });
    }
    let problem = problem.chars().take(64).collect();
    let error = LinkError::Refused { action: "the exchange", status: status.as_u16(), problem };
    // Between the server and here something may be restarting; anything else is meant.
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Attempt::Again(error)
        }
        _ => Attempt::Final(Failure::Broken(error)),
    }
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
