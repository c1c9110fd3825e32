//! The REST API as the commands use it: requests, problem documents, pages, retries.
//!
//! The only file that knows the HTTP library's client. Knows no terminal and no command.

use std::time::Duration;

use muster_protocol::backoff::Delays;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, Url, redirect};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::context::Context;
use crate::error::CliError;
use crate::trust::authorities;

/// What an answer may take beyond what the server was asked to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// What a live answer may take: it is watched for signs of life instead.
const LONGEST_ANSWER: Duration = Duration::from_secs(7 * 86_400);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often a request that may be repeated is tried.
const ATTEMPTS: usize = 5;
const PAGE_SIZE: usize = 200;

/// A server, and the right to use it.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    server: Url,
    authorization: HeaderValue,
}

impl Api {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the key can't stand in a header, or the authority's file holds none.
    pub fn new(context: &Context) -> Result<Self, CliError> {
        let text = format!("Bearer {}", context.api_key.expose_secret());
        let mut authorization = HeaderValue::from_str(&text)
            .map_err(|_| CliError::Usage("the key holds characters that no key has".into()))?;
        authorization.set_sensitive(true);
        let server = context.server.clone();
        let authorities = context.ca_file.as_deref().map(authorities).transpose()?;
        let client = Client::builder()
            .user_agent(concat!("muster-cli/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_WITHIN)
            // A redirect could lead the key off HTTPS or to somebody else.
            .redirect(redirect::Policy::none())
            .tls_certs_merge(authorities.unwrap_or_default())
            .build()
            .map_err(|error| connection(&server, &error))?;
        Ok(Self { client, server, authorization })
    }

    /// A request to `/api/<segments>`; each segment is escaped, so that a name is never a path.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.server.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("api").extend(segments);
        }
        self.client
            .request(method, url)
            .header(AUTHORIZATION, self.authorization.clone())
            .timeout(ANSWER_WITHIN)
    }

    /// A request that the server may hold for `wait_ms`.
    pub fn waiting(request: RequestBuilder, wait_ms: u64) -> RequestBuilder {
        request.timeout(ANSWER_WITHIN + Duration::from_millis(wait_ms))
    }

    /// Sends; any status but a 2xx or 416 (a range behind the end) is an error.
    ///
    /// # Errors
    /// [`CliError::Connection`] or [`CliError::Refused`].
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| connection(&self.server, &error))?;
        let status = response.status();
        if status.is_success() || status.as_u16() == 416 {
            return Ok(response);
        }
        let retry_after_s = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = response.bytes().await.unwrap_or_default();
        Err(refused(status.as_u16(), &body, retry_after_s))
    }

    /// Sends a request whose answer lasts as long as there is something to tell.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn send_live(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let sending = self.send(request.timeout(LONGEST_ANSWER));
        tokio::time::timeout(ANSWER_WITHIN, sending).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// Sends and reads JSON; an empty answer is `null`.
    ///
    /// # Errors
    /// As [`Api::send`], and [`CliError::Answer`] if it is not JSON.
    pub async fn json(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|error| connection(&self.server, &error))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| CliError::Answer(error.to_string()))
    }

    /// As [`Api::json`], tried again on failures that pass: only for requests that may be repeated.
    ///
    /// # Errors
    /// The last failure.
    pub async fn json_repeated(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let mut delays = Delays::for_reconnect();
        for _ in 1..ATTEMPTS {
            let Some(again) = request.try_clone() else { break };
            match self.json(again).await {
                Err(error) if error.is_passing() => {
                    tokio::time::sleep(delay_after(&error, &mut delays)).await;
                }
                answer => return answer,
            }
        }
        self.json(request).await
    }

    /// All items of a list, or the first `limit`, as one page.
    ///
    /// # Errors
    /// As [`Api::json`]; [`CliError::Answer`] if a page is none or leads back to itself.
    pub async fn list(
        &self,
        segments: &[&str],
        filters: &[(&str, &str)],
        limit: Option<usize>,
    ) -> Result<Value, CliError> {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let wanted = limit.map_or(PAGE_SIZE, |limit| (limit - items.len()).min(PAGE_SIZE));
            let mut query: Vec<(&str, String)> = vec![("limit", wanted.to_string())];
            query.extend(filters.iter().map(|(name, value)| (*name, (*value).to_owned())));
            query.extend(cursor.iter().map(|cursor| ("cursor", cursor.clone())));
            let page = self.json(self.request(Method::GET, segments).query(&query)).await?;
            let Some(Value::Array(more)) = page.get("items").cloned() else {
                return Err(CliError::Answer("a list without items".into()));
            };
            items.extend(more);
            let next = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() || limit.is_some_and(|limit| items.len() >= limit) {
                items.truncate(limit.unwrap_or(usize::MAX));
                return Ok(serde_json::json!({ "items": items, "next_cursor": next }));
            }
            if next == cursor {
                return Err(CliError::Answer("a list whose pages do not end".into()));
            }
            cursor = next;
        }
    }

    /// Nothing comes, not even a sign of life.
    pub fn silent(&self) -> CliError {
        let cause = "it did not answer in time".into();
        CliError::Connection { server: self.server.to_string(), cause }
    }

    /// An error while a body was being read.
    pub fn interrupted(&self, error: &reqwest::Error) -> CliError {
        connection(&self.server, error)
    }
}

/// How long to leave a server alone after a failure that passes. At most a minute.
pub fn delay_after(error: &CliError, delays: &mut Delays) -> Duration {
    match error {
        CliError::Refused { retry_after_s: Some(seconds), .. } => {
            Duration::from_secs((*seconds).min(60))
        }
        _ => delays.next_delay(),
    }
}

fn refused(status: u16, body: &[u8], retry_after_s: Option<u64>) -> CliError {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| {
        problem.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let sentence = text("detail")
        .or_else(|| text("title"))
        .unwrap_or_else(|| format!("the server answered with status {status} and no explanation"));
    let column = problem.get("column").and_then(Value::as_u64);
    let column = column.and_then(|column| usize::try_from(column).ok());
    CliError::Refused { status, code: text("code"), sentence, column, retry_after_s }
}

fn connection(server: &Url, error: &reqwest::Error) -> CliError {
    let mut cause = String::new();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        // Layers of the library repeat what they wrap.
        let text = error.to_string();
        if !cause.ends_with(&text) {
            cause = if cause.is_empty() { text } else { format!("{cause}: {text}") };
        }
        next = error.source();
    }
    if error.is_timeout() {
        cause = "it did not answer in time".into();
    } else if cause.is_empty() {
        cause = "the request failed".into();
    }
    CliError::Connection { server: server.to_string(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_is_told_by_its_detail_then_its_title_then_its_status() {
        let told = |body: &str| refused(409, body.as_bytes(), None).to_string();
        assert_eq!(told(r#"{"title":"Offline","detail":"web-1 is offline"}"#), "web-1 is offline");
        assert_eq!(told(r#"{"title":"Offline","detail":""}"#), "Offline");
        assert!(told("<html>").contains("status 409"));
        assert!(told("[]").contains("status 409"));
    }

    #[test]
    fn only_failures_that_pass_are_tried_again() {
        let passing = |status| refused(status, b"", None).is_passing();
        assert!([429, 502, 503, 504].into_iter().all(passing));
        assert!(![400, 401, 403, 404, 409, 422, 500].into_iter().any(passing));
    }

    #[test]
    fn names_in_addresses_are_escaped_and_a_base_path_is_kept() {
        let context = Context {
            server: Url::parse("https://m.example/base/").unwrap(),
            api_key: "mst_live_x".into(),
            insecure: false,
            ca_file: None,
        };
        crate::install_tls();
        let request = Api::new(&context).unwrap().request(Method::GET, &["agents", "../a/b?c"]);
        let request = request.query(&[("cursor", "a&b")]).build().unwrap();
        assert_eq!(
            request.url().as_str(),
            "https://m.example/base/api/agents/..%2Fa%2Fb%3Fc?cursor=a%26b"
        );
    }
}
