//! A full agent over plain HTTP that sends exactly what a test sets.

use std::collections::VecDeque;

use muster_protocol::frame::exchange::{
    CONTENT_TYPE, ExchangePart, ExchangeRequest, ExchangeResponse,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fake_agent::{Closed, proven};

/// How long the server may delay an empty answer.
const WAIT_MS: u32 = 5_000;
/// Requests without the frame that a test waits for.
const MOST_REQUESTS: usize = 10;

/// One session over `/api/agents/exchange`.
#[derive(Debug)]
pub struct ExchangeAgent {
    http: reqwest::Client,
    url: String,
    key: String,
    session_id: Uuid,
    sequence: u64,
    received: VecDeque<ExchangePart>,
    connected: Value,
}

impl ExchangeAgent {
    /// Opens a session; `connected` has arrived when this returns.
    pub async fn connect(address: &str, key: &str) -> Self {
        let mut agent = Self {
            http: reqwest::Client::new(),
            url: format!("http://{address}/api/agents/exchange"),
            key: key.to_owned(),
            session_id: Uuid::new_v4(),
            sequence: 0,
            received: VecDeque::new(),
            connected: Value::Null,
        };
        agent.connected = agent.next().await.expect("connected");
        assert_eq!(agent.connected["type"], "connected", "{}", agent.connected);
        agent
    }

    /// The data with the proof for this session.
    pub fn proven(&self, data: Value) -> Value {
        let text = |name: &str| self.connected[name].as_str().unwrap_or_default();
        let challenge = text("challenge").parse().expect("a challenge");
        proven(data, &challenge, text("agent_key_id").parse().expect("an id"))
    }

    /// Sends `register` with this data as it is; the answer, or the close.
    pub async fn register(&mut self, data: Value) -> Result<Value, Closed> {
        let frame = json!({"type": "register", "data": data});
        self.exchange(vec![ExchangePart::Text(frame.to_string())]).await;
        self.next().await
    }

    async fn next(&mut self) -> Result<Value, Closed> {
        for _ in 0..MOST_REQUESTS {
            match self.received.pop_front() {
                Some(ExchangePart::Text(text)) => {
                    return Ok(serde_json::from_str(&text).expect("a frame is JSON"));
                }
                Some(ExchangePart::Close { code, reason }) => {
                    return Err(Closed::new(code, &reason));
                }
                Some(ExchangePart::Binary(_)) => panic!("the server sends no binary frames"),
                None => self.exchange(Vec::new()).await,
            }
        }
        panic!("nothing came");
    }

    async fn exchange(&mut self, parts: Vec<ExchangePart>) {
        let (session_id, sequence) = (self.session_id, self.sequence);
        let request = ExchangeRequest { session_id, sequence, wait_ms: WAIT_MS, parts };
        self.sequence += 1;
        let answer = self
            .http
            .post(&self.url)
            .bearer_auth(&self.key)
            .header("content-type", CONTENT_TYPE)
            .body(request.encode())
            .send()
            .await
            .expect("reach the server");
        assert_eq!(answer.status(), 200);
        let body = answer.bytes().await.expect("a body");
        self.received.extend(ExchangeResponse::decode(&body).expect("an answer").parts);
    }
}
