//! The REST API: requests, problem documents, pages, retries.
//!
//! The only file that builds the HTTP library's client. Knows no terminal and no command.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::error_chain;
use muster_protocol::program::backoff::Delays;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, Url, redirect};
use serde_json::Value;

use super::certificates::{read_authorities, read_identity};
use super::credential::Credential;
use super::proxy::ServerProxy;
use crate::context::Context;
use crate::error::CliError;
use crate::error::problem::Problem;

/// Timeout of an answer, in addition to the `wait_ms` of the request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of a whole event stream. Its reader watches for silence instead.
const STREAM_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts of a request that is safe to repeat.
const MAX_ATTEMPTS: usize = 5;
const PAGE_SIZE: usize = 200;
/// The code of a refusal of an access token that has expired.
const EXPIRED: &str = "expired_access_token";
const PLAIN_HTTP: &str = "it does not answer in TLS: this server speaks plain http, so use http:// on a network that you trust, or give the server a certificate";
const TIMED_OUT: &str = "the server did not answer in time";

/// A client of one server with one API key.
#[derive(Debug, Clone)]
pub struct ApiClient {
    client: Client,
    server: Url,
    /// The server, and the proxy if there is one, as errors show them.
    route: String,
    credential: Arc<Credential>,
}

impl ApiClient {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the key is not a valid header value, the CA file holds no certificate, or the
    /// environment names a proxy that can't be used.
    pub fn new(context: &Context) -> Result<Self, CliError> {
        let credential = Arc::new(Credential::new(context)?);
        let server = context.server.clone();
        let authorities = context.ca_file.as_deref().map(read_authorities).transpose()?;
        let proxy = ServerProxy::from_environment(&server)?;
        let route = match &proxy {
            Some(proxy) => format!("{server} through the proxy {proxy}"),
            None => server.to_string(),
        };
        let mut builder = Client::builder()
            // Otherwise the library reads the environment itself.
            .no_proxy()
            .user_agent(concat!("muster-cli/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect could send the key to another server or over plain HTTP.
            .redirect(redirect::Policy::none())
            .tls_certs_merge(authorities.unwrap_or_default());
        if let Some(identity) = read_identity(&server)? {
            builder = builder.identity(identity);
        }
        let broken = |error| connection(&route, &error);
        if let Some(proxy) = proxy {
            builder = builder.proxy(proxy.to_http().map_err(broken)?);
        }
        let client = builder.build().map_err(broken)?;
        Ok(Self { client, server, route, credential })
    }

    /// The base URL of the server.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// A request to `/api/<segments>`. Escapes each segment, so that a name is never a path.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.server.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("api").extend(segments);
        }
        self.client.request(method, url).timeout(ANSWER_TIMEOUT)
    }

    /// A request that the server may hold for `wait_ms` before it answers.
    pub fn with_wait(request: RequestBuilder, wait_ms: u64) -> RequestBuilder {
        request.timeout(ANSWER_TIMEOUT + Duration::from_millis(wait_ms))
    }

    /// Sends a request with the key or the access token. Any status but 2xx and 416 (a range after the end)
    /// is an error.
    ///
    /// # Errors
    /// [`CliError::Connection`] or [`CliError::Refused`].
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let repeated = request.try_clone();
        let authorization = self.authorization(None).await?;
        let sent = self.send_once(request.header(AUTHORIZATION, authorization.clone())).await;
        match (sent, repeated) {
            (Err(CliError::Refused(problem)), Some(request))
                if problem.code == EXPIRED && self.credential.is_renewable() =>
            {
                let next = self.authorization(Some(&authorization)).await?;
                self.send_once(request.header(AUTHORIZATION, next)).await
            }
            (sent, _) => sent,
        }
    }

    async fn send_once(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| connection(&self.route, &error))?;
        let status = response.status();
        if status.is_success() || status.as_u16() == 416 {
            return Ok(response);
        }
        let retry_after_s = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = response.bytes().await.unwrap_or_default();
        let problem = Problem::read(status.as_u16(), &body, retry_after_s);
        Err(CliError::Refused(Box::new(problem)))
    }

    /// Sends a request for an event stream; only the start of its answer has the usual timeout.
    ///
    /// # Errors
    /// As [`ApiClient::send`].
    pub async fn send_stream(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let sending = self.send(request.timeout(STREAM_TIMEOUT));
        tokio::time::timeout(ANSWER_TIMEOUT, sending)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
    }

    /// Sends a request and reads JSON; an empty body is `null`.
    ///
    /// # Errors
    /// As [`ApiClient::send`], and [`CliError::Answer`] if the body is not JSON.
    pub async fn json(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let response = self.send(request).await?;
        self.read_json(response).await
    }

    async fn read_json(&self, response: Response) -> Result<Value, CliError> {
        let body = response.bytes().await.map_err(|error| connection(&self.route, &error))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| CliError::Answer(error.to_string()))
    }

    /// As [`ApiClient::json`], with retries after transient errors. Only for requests that are safe to repeat.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn json_with_retries(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let mut delays = Delays::for_reconnect();
        for _ in 1..MAX_ATTEMPTS {
            let Some(attempt) = request.try_clone() else { break };
            match self.json(attempt).await {
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(delay_after(&error, &mut delays)).await;
                }
                answer => return answer,
            }
        }
        self.json(request).await
    }

    /// The header with the key or the access token, which is renewed if it is due.
    async fn authorization(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, CliError> {
        let mut held = self.credential.hold(refused).await;
        if let Some(body) = held.due_refresh() {
            let answer = self.refreshed(&body).await?;
            held.renew(&answer)?;
        }
        held.header()
    }

    /// The answer to a refresh. Repeated, it gets the same tokens for a moment.
    async fn refreshed(&self, body: &Value) -> Result<Value, CliError> {
        let mut delays = Delays::for_reconnect();
        let mut attempts = 1;
        loop {
            let request = self.request(Method::POST, &["auth", "refresh"]).json(body);
            match self.send_once(request).await {
                Ok(response) => return self.read_json(response).await,
                Err(error) if error.is_transient() && attempts < MAX_ATTEMPTS => {
                    tokio::time::sleep(delay_after(&error, &mut delays)).await;
                }
                Err(error) => return Err(error),
            }
            attempts += 1;
        }
    }

    /// All items of a list, or the first `limit`, in the shape of one page.
    ///
    /// # Errors
    /// As [`ApiClient::json`]; [`CliError::Answer`] if a page has no items or its cursor repeats.
    pub async fn list(
        &self,
        segments: &[&str],
        filters: &[(&str, &str)],
        limit: Option<usize>,
    ) -> Result<Value, CliError> {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page_size = limit.map_or(PAGE_SIZE, |limit| (limit - items.len()).min(PAGE_SIZE));
            let mut query: Vec<(&str, String)> = vec![("limit", page_size.to_string())];
            query.extend(filters.iter().map(|(name, value)| (*name, (*value).to_owned())));
            query.extend(cursor.iter().map(|cursor| ("cursor", cursor.clone())));
            let page = self.json(self.request(Method::GET, segments).query(&query)).await?;
            let Some(Value::Array(more)) = page.get("items").cloned() else {
                return Err(CliError::Answer("the list has no `items`".into()));
            };
            items.extend(more);
            let next = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() || limit.is_some_and(|limit| items.len() >= limit) {
                items.truncate(limit.unwrap_or(usize::MAX));
                return Ok(serde_json::json!({ "items": items, "next_cursor": next }));
            }
            if next == cursor {
                return Err(CliError::Answer("the list repeats its cursor".into()));
            }
            cursor = next;
        }
    }

    /// The error for a server that stopped answering.
    pub fn timed_out(&self) -> CliError {
        let cause = TIMED_OUT.into();
        CliError::Connection { server: self.route.clone(), cause }
    }

    /// The error for a body that was cut off.
    pub fn cut_off(&self, error: &reqwest::Error) -> CliError {
        connection(&self.route, error)
    }
}

/// The delay before a retry after a transient error. At most a minute.
pub fn delay_after(error: &CliError, delays: &mut Delays) -> Duration {
    match error {
        CliError::Refused(problem) if problem.retry_after_s.is_some() => {
            Duration::from_secs(problem.retry_after_s.unwrap_or_default().min(60))
        }
        _ => delays.next_delay(),
    }
}

fn connection(route: &str, error: &reqwest::Error) -> CliError {
    let cause = match std::error::Error::source(error) {
        _ if error.is_timeout() => TIMED_OUT.to_owned(),
        Some(source) if is_plain_http(source) => PLAIN_HTTP.to_owned(),
        Some(source) => error_chain(source),
        None => "the request failed".to_owned(),
    };
    CliError::Connection { server: route.to_owned(), cause }
}

/// True if the answer to a TLS handshake did not begin as a record of TLS does.
fn is_plain_http(error: &(dyn std::error::Error + 'static)) -> bool {
    let expected = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error leaves out the error that it wraps when it is asked for its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = match wrapped {
            Some(wrapped) => wrapped.downcast_ref::<rustls::Error>(),
            None => error.downcast_ref::<rustls::Error>(),
        };
        if tls == Some(&expected) {
            return true;
        }
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transient_errors_are_retried() {
        let is_transient =
            |status| CliError::Refused(Box::new(Problem::read(status, b"", None))).is_transient();
        assert!([429, 502, 503, 504].into_iter().all(is_transient));
        assert!(![400, 401, 403, 404, 409, 422, 500].into_iter().any(is_transient));
    }

    #[test]
    fn names_in_urls_are_escaped_and_a_base_path_is_kept() {
        let context = Context {
            server: Url::parse("https://m.example/base/").unwrap(),
            api_key: "mst_live_x".into(),
            renewal: None,
            insecure: false,
            ca_file: None,
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request =
            ApiClient::new(&context).unwrap().request(Method::GET, &["agents", "../a/b?c"]);
        let request = request.query(&[("cursor", "a&b")]).build().unwrap();
        assert_eq!(
            request.url().as_str(),
            "https://m.example/base/api/agents/..%2Fa%2Fb%3Fc?cursor=a%26b"
        );
    }
}
