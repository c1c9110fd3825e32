//! What enrolled agents that send as much as they can do to an innocent agent and to the server.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use muster_protocol::frame::output::{Stream, record_header, write_frame_header};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use super::agent::AgentOptions;
use super::fake_agent::FakeAgent;
use crate::clients::api::Api;
use crate::fixture::Fixture;
use crate::json::JsonFields as _;
use crate::wait::pass;

/// Payload of one record, and records of one frame of the output flood.
const RECORD_BYTES: usize = 60_000;
const RECORDS: usize = 4;
/// Scripts of one manifest of the manifest flood, about 440 KB together.
const SCRIPTS: usize = 1_500;
const DESCRIPTION_BYTES: usize = 200;

/// What the agents send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Large manifests, each different from the one before.
    Manifests,
    /// Output, without waiting for an acknowledgement.
    Output,
}

/// What the innocent agent and the server did meanwhile.
#[derive(Debug, Default)]
pub struct Period {
    /// How long each ping took that was answered.
    pub pings: Vec<Duration>,
    pub unanswered: usize,
    /// The server's resident memory: the most that was seen, and the last.
    pub most_resident_bytes: u64,
    pub last_resident_bytes: u64,
}

/// One flood, and the time before and after it.
#[derive(Debug)]
pub struct FloodOutcome {
    pub before: Period,
    pub during: Period,
    pub after: Period,
    /// Frames of the flood that the server's sockets took.
    pub frames: u64,
}

impl Period {
    /// The slowest ping but for the slowest hundredth.
    pub fn ping_p99(&self) -> Duration {
        let mut pings = self.pings.clone();
        pings.sort();
        let index = (pings.len() * 99 / 100).min(pings.len().saturating_sub(1));
        pings.get(index).copied().unwrap_or_default()
    }
}

/// Measures one flood of so many sessions, each with a key of its own, on a server of its own.
pub async fn measure_flood(flood: Flood, sessions: usize, period: Duration) -> FloodOutcome {
    let mut fixture = Fixture::on_sqlite().await;
    let server = fixture.server.process().id();
    let (agent, id) = fixture.agent(AgentOptions::named("innocent")).await;
    observe(&fixture.api, &id, server, period / 4).await;
    let before = observe(&fixture.api, &id, server, period).await;
    let mut senders = JoinSet::new();
    let address = fixture.server.address();
    let until = Instant::now() + period + Duration::from_secs(2);
    for number in 0..sessions {
        let (_, key) = fixture.api.agent_key(json!({"permissions": crate::ALL})).await;
        let (api, address) = (fixture.api.clone(), address.clone());
        senders.spawn(async move {
            match flood {
                Flood::Manifests => send_manifests(&address, &key, number, until).await,
                Flood::Output => send_output(&api, &address, &key, until).await,
            }
        });
    }
    pass(Duration::from_secs(2)).await;
    let during = observe(&fixture.api, &id, server, period).await;
    let frames = senders.join_all().await.into_iter().sum();
    // The server has some seconds to finish what it has received.
    observe(&fixture.api, &id, server, Duration::from_secs(10)).await;
    let after = observe(&fixture.api, &id, server, period).await;
    drop(agent);
    FloodOutcome { before, during, after, frames }
}

async fn observe(api: &Api, agent: &str, server: u32, time: Duration) -> Period {
    let mut period = Period::default();
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while started.elapsed() < time {
        ticks.tick().await;
        let asked = Instant::now();
        let path = format!("/api/agents/{agent}/command");
        match api.post(&path, json!({"command": "ping"})).await.status {
            200 => period.pings.push(asked.elapsed()),
            _ => period.unanswered += 1,
        }
        period.last_resident_bytes = resident_bytes(server);
        period.most_resident_bytes = period.most_resident_bytes.max(period.last_resident_bytes);
    }
    period
}

async fn send_manifests(address: &str, key: &str, session: usize, until: Instant) -> u64 {
    let (mut agent, _) = FakeAgent::registered_full(address, key, json!({})).await;
    let description = "d".repeat(DESCRIPTION_BYTES);
    let script = |number| {
        let name = format!("script-{session}-{number}");
        json!({"name": name, "path": "x", "description": description})
    };
    let mut scripts: Vec<Value> = (0..SCRIPTS).map(script).collect();
    let mut sent = 0;
    while Instant::now() < until {
        scripts[0]["description"] = json!(sent.to_string());
        let frame = json!({"type": "manifest", "manifest": {"scripts": scripts}}).to_string();
        if !passes(&mut agent, Message::text(frame), until).await {
            break;
        }
        sent += 1;
    }
    sent
}

async fn send_output(api: &Api, address: &str, key: &str, until: Instant) -> u64 {
    let (mut agent, registered) = FakeAgent::registered_full(address, key, json!({})).await;
    let manifest = json!({"scripts": [{"name": "flood", "path": "x"}]});
    agent.send(json!({"type": "manifest", "manifest": manifest})).await;
    agent.send(json!({"type": "heartbeat", "status": {}})).await;
    while agent.next().await.expect("open")["type"] != "heartbeat_ack" {}
    let command = api.execute(registered.text("agent_id"), "flood", json!({})).await;
    while agent.next().await.expect("open")["type"] != "command" {}
    agent.send(json!({"type": "accepted", "command_id": command, "acceptance_count": 1})).await;
    agent.send(json!({"type": "started", "command_id": command})).await;
    let command: Uuid = command.parse().expect("an id");
    let (mut sent, mut offset) = (0, 0);
    while Instant::now() < until {
        let mut frame = Vec::new();
        write_frame_header(&mut frame, command, offset);
        for _ in 0..RECORDS {
            frame.extend_from_slice(&record_header(Stream::Stdout, RECORD_BYTES as u32));
            frame.resize(frame.len() + RECORD_BYTES, b'o');
        }
        offset += (RECORDS * RECORD_BYTES) as u64;
        if !passes(&mut agent, Message::binary(frame), until).await {
            break;
        }
        sent += 1;
    }
    sent
}

/// Sends a message and drops what the server has sent. False if the server has closed the session, or
/// took nothing until the time was up.
async fn passes(agent: &mut FakeAgent, message: Message, until: Instant) -> bool {
    while let Some(frame) = agent.next().now_or_never() {
        if frame.is_err() {
            return false;
        }
    }
    let until = tokio::time::Instant::from_std(until);
    matches!(tokio::time::timeout_at(until, agent.try_send(message)).await, Ok(Ok(())))
}

fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}
