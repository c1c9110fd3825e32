//! What an agent achieves over a network: output of a known size, with pings meanwhile.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::json;

use super::network::Network;
use super::shaper::Conditions;
use crate::agents::agent::AgentOptions;
use crate::agents::scripts::{Script, sha256};
use crate::clients::api::is_terminal;
use crate::fixture::Fixture;
use crate::processes::test_dir::TestDir;
use crate::servers::authority::Authority;
use crate::servers::server::{Database, ServerOptions};
use crate::wait::{pass, within};

/// How an agent reaches its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Http,
    /// A WebSocket over the server's own TLS.
    Tls,
}

/// A time in which packets disappear.
#[derive(Debug, Clone, Copy)]
pub struct Blackhole {
    /// Packets of the agent disappear.
    pub up: bool,
    /// Packets of the server disappear.
    pub down: bool,
    /// From the request to its start.
    pub after: Duration,
    pub time: Duration,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub transport: Transport,
    pub up: Conditions,
    pub down: Conditions,
    pub blackhole: Option<Blackhole>,
    pub output_bytes: usize,
    /// Time between two pings.
    pub ping_every: Duration,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    /// From the request to the stored result.
    pub took: Duration,
    /// The payload of the output at the rate of the link, without any header.
    pub ideal: Duration,
    /// Bytes that the agent put on the network meanwhile: the payload with its headers,
    /// acknowledgements, heartbeats and the answers to the pings.
    pub carried_bytes: u64,
    output_bytes: usize,
    pub is_exact: bool,
    pub disconnects: usize,
    /// How long each ping took; those without an answer are not in it.
    pub pings: Vec<Duration>,
    pub unanswered: usize,
}

impl Outcome {
    /// The time taken, as a multiple of the ideal.
    pub fn ratio(&self) -> f64 {
        self.took.as_secs_f64() / self.ideal.as_secs_f64()
    }

    /// The bytes on the network, as a multiple of the payload. No time can be shorter than this
    /// multiple of the ideal.
    pub fn wire_ratio(&self) -> f64 {
        self.carried_bytes as f64 / self.output_bytes as f64
    }

    /// The slowest ping but for the slowest hundredth.
    pub fn ping_p99(&self) -> Duration {
        let mut pings = self.pings.clone();
        pings.sort();
        let index = (pings.len() * 99 / 100).min(pings.len().saturating_sub(1));
        pings.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} s ({:.2} x ideal, wire {:.2}), {}, {} disconnects, {} pings, p99 {:.2} s, {} unanswered",
            self.took.as_secs_f64(),
            self.ratio(),
            self.wire_ratio(),
            if self.is_exact { "exact" } else { "NOT EXACT" },
            self.disconnects,
            self.pings.len(),
            self.ping_p99().as_secs_f64(),
            self.unanswered,
        )
    }
}

/// Runs one case on a server and an agent of its own. Needs root.
pub async fn measure(case: Case) -> Outcome {
    let network = Network::new(Conditions::default(), Conditions::default());
    let test_dir = TestDir::new();
    let heartbeat_ms = case.heartbeat.as_millis();
    let mut options = ServerOptions::default();
    let mut agent_options = AgentOptions::with_scripts([numbers(case.output_bytes)]);
    if case.transport == Transport::Tls {
        let authority = Authority::new(&test_dir);
        authority.certify(&[&network.server_host()], (-1, 90));
        options = ServerOptions::secured(&authority);
        agent_options = agent_options.with("MUSTER_CA_FILE", authority.file().display());
    }
    if case.transport == Transport::Http {
        agent_options = agent_options.with("MUSTER_HTTP_FALLBACK", "only");
    }
    let options = options.with("MUSTER_HEARTBEAT_INTERVAL_MS", heartbeat_ms);
    let fixture = Fixture::on(test_dir, Database::Sqlite, network.server(options)).await;
    let url = fixture.server.url();
    let (agent, id) = fixture.agent_through(&url, network.agent(agent_options)).await;
    network.set(case.up, case.down);

    let started = Instant::now();
    let carried_before = network.carried_up();
    let command = fixture.api.execute(&id, "numbers", json!({})).await;
    let finished = async {
        within(Duration::from_secs(3_600), "the output is stored", async || {
            let command = fixture.api.command(&command).await;
            command["state"].as_str().is_some_and(is_terminal).then_some(())
        })
        .await;
        started.elapsed()
    };
    let (mut pings, mut unanswered) = (Vec::new(), 0);
    let pinging = async {
        let mut ticks = tokio::time::interval(case.ping_every);
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            let path = format!("/api/agents/{id}/command");
            let answer = fixture.api.post(&path, json!({"command": "ping"})).await;
            match answer.status {
                200 => pings.push(asked.elapsed()),
                _ => unanswered += 1,
            }
        }
    };
    let breaking = async {
        if let Some(Blackhole { up, down, after, time }) = case.blackhole {
            pass(after).await;
            network.set(
                Conditions { is_blackhole: up, ..case.up },
                Conditions { is_blackhole: down, ..case.down },
            );
            pass(time).await;
            network.set(case.up, case.down);
        }
        std::future::pending::<()>().await;
    };
    let took = tokio::select! {
        took = finished => took,
        () = pinging => unreachable!("it goes on until the output is stored"),
        () = breaking => unreachable!("it never ends"),
    };
    let carried_bytes = network.carried_up() - carried_before;
    let output = fixture.api.output(&command).await;
    let shown = fixture.api.command(&command).await;
    let expected = printed(case.output_bytes);
    let is_exact =
        output == expected && shown["result"]["output_sha256"] == sha256(&expected).as_str();
    let disconnects = fixture.server.log().matches("session ended").count();
    network.set(Conditions::default(), Conditions::default());
    drop(agent);
    let rate = case.up.bits_per_second.unwrap_or(1_000_000_000);
    let ideal = Duration::from_secs_f64(case.output_bytes as f64 * 8.0 / rate as f64);
    let output_bytes = case.output_bytes;
    Outcome { took, ideal, carried_bytes, output_bytes, is_exact, disconnects, pings, unanswered }
}

/// Prints so many bytes that do not repeat.
fn numbers(bytes: usize) -> Script {
    Script::new("numbers", &format!("seq -f %015.0f 1 {} | head -c {bytes}\n", bytes / 16 + 1))
}

fn printed(bytes: usize) -> Vec<u8> {
    let lines = (1..=bytes / 16 + 1).flat_map(|number| format!("{number:015}\n").into_bytes());
    lines.take(bytes).collect()
}
