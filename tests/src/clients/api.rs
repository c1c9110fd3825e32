//! A REST client for tests: sends a request, and returns status and body.

use std::path::Path;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::json::JsonFields as _;
use crate::wait::{eventually, eventually_shown};

/// A caller of the REST API with one key.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    key: String,
    http: reqwest::Client,
}

/// The answer of the server.
#[derive(Debug, Clone)]
pub struct ApiResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

/// True for a terminal state.
pub fn is_terminal(state: &str) -> bool {
    !matches!(state, "queued" | "delivered" | "running")
}

impl ApiResponse {
    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// The body, if the status is as expected.
    ///
    /// # Panics
    /// On any other status; the message shows the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, status, "unexpected answer: {text}");
        self.json()
    }

    /// Asserts a problem document with this status and code, and returns it.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        let kind = self.header("content-type").to_owned();
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert!(kind.starts_with("application/problem+json"), "content type {kind}");
        for field in ["type", "title", "detail"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {body}");
        }
        body
    }

    /// A header's value; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Api {
    /// Calls the server at `base`, such as `http://127.0.0.1:8080`, with this key.
    pub fn new(base: &str, key: &str) -> Self {
        Self::trusting(base, key, None)
    }

    /// [`Api::new`], trusting the authority in this PEM file.
    pub fn trusting(base: &str, key: &str, authority: Option<&Path>) -> Self {
        // Fails if a provider is installed already, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().no_proxy();
        if let Some(file) = authority {
            let pem = std::fs::read(file).expect("read the authority");
            let authority = reqwest::Certificate::from_pem(&pem).expect("a certificate");
            http = http.tls_certs_only([authority]);
        }
        let http = http.build().expect("make a client");
        Self { base: base.trim_end_matches('/').to_owned(), key: key.to_owned(), http }
    }

    /// The key of the requests.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The same server with another key, or without one if it is empty.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// One request. The error is an error of the connection.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<ApiResponse, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !self.key.is_empty() {
            request = request.bearer_auth(&self.key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            let has_type = headers.iter().any(|(name, _)| *name == "content-type");
            if !has_type {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(ApiResponse { status, headers, bytes: response.bytes().await?.to_vec() })
    }

    /// A request whose answer is read in pieces.
    pub async fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<reqwest::Response, reqwest::Error> {
        let request = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.key);
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .send()
            .await
    }

    /// One request, with a JSON body if any.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> ApiResponse {
        let body = body.map(|body| body.to_string().into_bytes());
        self.try_send(method, path, &[], body).await.expect("reach the server")
    }

    pub async fn get(&self, path: &str) -> ApiResponse {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> ApiResponse {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> ApiResponse {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> ApiResponse {
        self.send(Method::DELETE, path, None).await
    }

    /// Sends a file.
    pub async fn upload(&self, path: &str, bytes: Vec<u8>) -> ApiResponse {
        let headers = [("content-type", "application/octet-stream")];
        let sent = self.try_send(Method::POST, path, &headers, Some(bytes)).await;
        sent.expect("reach the server")
    }

    /// [`Api::post`] with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, key: &str, body: Value) -> ApiResponse {
        let body = Some(body.to_string().into_bytes());
        self.try_send(Method::POST, path, &[("idempotency-key", key)], body)
            .await
            .expect("reach the server")
    }

    /// Creates an agent key with these fields and a name. Returns its id and its secret.
    pub async fn agent_key(&self, mut fields: Value) -> (String, String) {
        if fields.get("name").is_none() {
            fields["name"] = json!("a key");
        }
        let made = self.post("/api/agents/keys", fields).await.expect(201);
        let text = |field: &str| made[field].as_str().expect("a string").to_owned();
        (text("id"), text("key"))
    }

    /// Starts a script and returns the id of the command.
    pub async fn execute(&self, agent: &str, script: &str, data: Value) -> String {
        let mut data = data;
        data["script"] = json!(script);
        let body = json!({"command": "execute", "data": data});
        let path = format!("/api/agents/{agent}/command");
        let answer = self.post(&path, body).await;
        let location = answer.header("location").to_owned();
        let body = answer.expect(202);
        let id = body.id().to_owned();
        assert_eq!(location, format!("/api/commands/{id}"));
        id
    }

    /// Sends an `execute` without a preflight. Returns the id of the command.
    pub async fn execute_anyway(&self, agent: &str, data: Value) -> String {
        let body = json!({"command": "execute", "data": data, "on_mismatch": "send"});
        let made = self.post(&format!("/api/agents/{agent}/command"), body).await.expect(202);
        made.id().to_owned()
    }

    /// Sends an `execute`. Returns the answer, also a refusal.
    pub async fn try_execute(&self, agent: &str, data: Value) -> ApiResponse {
        let body = json!({"command": "execute", "data": data});
        self.post(&format!("/api/agents/{agent}/command"), body).await
    }

    /// A command in the API.
    pub async fn command(&self, id: &str) -> Value {
        self.get(&format!("/api/commands/{id}")).await.expect(200)
    }

    /// Waits until the command is in exactly this state.
    pub async fn in_state(&self, id: &str, state: &str) -> Value {
        eventually_shown(&format!("command {id} is {state}"), async || {
            let command = self.command_if_reachable(id).await.ok_or(Value::Null)?;
            let now = command["state"].as_str().unwrap_or_default();
            assert!(now == state || !is_terminal(now), "ended otherwise: {command}");
            if now == state { Ok(command) } else { Err(command) }
        })
        .await
    }

    /// Waits until the command has ended, across restarts of the server.
    pub async fn finished(&self, id: &str) -> Value {
        eventually_shown(&format!("command {id} ends"), async || {
            let command = self.command_if_reachable(id).await.ok_or(Value::Null)?;
            let has_ended = command["state"].as_str().is_some_and(is_terminal);
            if has_ended { Ok(command) } else { Err(command) }
        })
        .await
    }

    async fn command_if_reachable(&self, id: &str) -> Option<Value> {
        let path = format!("/api/commands/{id}");
        let answer = self.try_send(Method::GET, &path, &[], None).await.ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Committed output of both streams.
    pub async fn output(&self, id: &str) -> Vec<u8> {
        let answer = self.get(&format!("/api/commands/{id}/output")).await;
        assert!(matches!(answer.status, 200 | 206), "{}", String::from_utf8_lossy(&answer.bytes));
        answer.bytes
    }

    /// Waits until at least this much output is committed.
    pub async fn output_reaches(&self, id: &str, bytes: u64) {
        eventually(&format!("{bytes} bytes of output of {id}"), async || {
            let command = self.command_if_reachable(id).await?;
            (command["output_bytes"].as_u64()? >= bytes).then_some(())
        })
        .await;
    }
}
