//! Agents on slow and broken networks: what flows is not cut, and what is lost is noticed.

use std::time::Duration;

use muster_tests::{
    AgentOptions, Blackhole, Case, Conditions, Database, Fixture, Network, Outcome, Script,
    ServerOptions, TestDir, Transport, eventually, measure,
};
use serde_json::json;

/// A short run over one network. Its heartbeats are so frequent that any that waited behind output
/// would end the session.
async fn short(transport: Transport, kbit: u64, bytes: usize) -> Outcome {
    let outcome = measure(Case {
        transport,
        up: Conditions::kbit(kbit),
        down: Conditions::kbit(4 * kbit),
        blackhole: None,
        output_bytes: bytes,
        ping_every: Duration::from_secs(1),
        heartbeat: Duration::from_secs(2),
    })
    .await;
    println!("{kbit} kbit/s {transport:?}: {outcome}");
    assert!(outcome.is_exact, "{outcome}");
    assert_eq!((outcome.disconnects, outcome.unanswered), (0, 0), "{outcome}");
    outcome
}

#[tokio::test]
async fn slow_uplink_carries_output_and_heartbeats_over_a_websocket() {
    short(Transport::WebSocket, 16, 24_000).await;
}

#[tokio::test]
async fn slow_uplink_carries_output_and_heartbeats_over_http() {
    short(Transport::Http, 64, 80_000).await;
}

#[tokio::test]
async fn slow_uplink_carries_output_and_heartbeats_over_tls() {
    short(Transport::Tls, 64, 80_000).await;
}

#[tokio::test]
async fn lossy_network_delays_output_and_loses_none() {
    let lossy = |kbit| Conditions {
        lost_per_million: 20_000,
        reordered_per_million: 50_000,
        ..Conditions::kbit(kbit)
    };
    let outcome = measure(Case {
        transport: Transport::WebSocket,
        up: lossy(1_000),
        down: lossy(1_000),
        blackhole: None,
        output_bytes: 500_000,
        ping_every: Duration::from_secs(1),
        heartbeat: Duration::from_secs(30),
    })
    .await;
    assert!(outcome.is_exact && outcome.disconnects == 0, "{outcome}");
}

#[tokio::test]
async fn blackhole_of_either_direction_in_the_middle_of_output_loses_none() {
    let during = |transport, up, down| Case {
        transport,
        up: Conditions::kbit(1_000),
        down: Conditions::kbit(1_000),
        blackhole: Some(Blackhole {
            up,
            down,
            after: Duration::from_secs(1),
            time: Duration::from_secs(2),
        }),
        output_bytes: 400_000,
        ping_every: Duration::from_secs(1),
        heartbeat: Duration::from_secs(30),
    };
    let outcomes = tokio::join!(
        measure(during(Transport::Http, true, false)),
        measure(during(Transport::Http, false, true)),
        measure(during(Transport::Tls, true, false)),
        measure(during(Transport::Tls, true, true)),
    );
    for outcome in [outcomes.0, outcomes.1, outcomes.2, outcomes.3] {
        assert!(outcome.is_exact && outcome.disconnects == 0, "{outcome}");
        // Otherwise the output was stored before its network broke.
        assert!(outcome.took > Duration::from_secs(3), "{outcome}");
    }
}

/// A server and an agent with a network between them.
async fn connected(heartbeat_ms: u32) -> (Network, Fixture, muster_tests::Agent, String) {
    let network = Network::new(Conditions::default(), Conditions::default());
    let options = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", heartbeat_ms);
    let options = network.server(options);
    let fixture = Fixture::on(TestDir::new(), Database::Sqlite, options).await;
    let options = AgentOptions::with_scripts([Script::new("hello", "echo hello")]);
    let url = fixture.server.url();
    let (agent, id) = fixture.agent_through(&url, network.agent(options)).await;
    (network, fixture, agent, id)
}

/// Its bytes arrive for longer than either side waits for a sign of life.
#[tokio::test]
async fn frame_that_takes_longer_than_the_silence_of_a_session_keeps_it() {
    let network = Network::new(Conditions::kbit(128), Conditions::kbit(256));
    let options = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 2_000);
    let options = network.server(options);
    let fixture = Fixture::on(TestDir::new(), Database::Sqlite, options).await;
    let description = "x".repeat(900);
    let scripts = (0..200).map(|number| {
        Script::new(&format!("script-{number}"), "echo").with("description", json!(description))
    });
    // One frame of 200 kB takes 12 seconds, and a silence of 7 seconds ends a session. The socket's buffer is
    // accepted again after a third of it has left, which takes less than that.
    let options = network.agent(AgentOptions::with_scripts(scripts));
    let (agent, _) = fixture.agent_through(&fixture.server.url(), options).await;
    let log = fixture.server.log();
    let ended: Vec<_> = log.lines().filter(|line| line.contains("session ended")).collect();
    assert!(ended.is_empty(), "{ended:#?}\n{}", agent.log());
    drop(agent);
}

async fn status_is(fixture: &Fixture, agent: &str, status: &str) {
    eventually(&format!("the agent is {status}"), async || {
        let shown = fixture.api.get(&format!("/api/agents/{agent}")).await.expect(200);
        (shown["status"] == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn both_sides_notice_a_blackhole_of_either_direction_and_recover() {
    let open = Conditions::default();
    let closed = Conditions { is_blackhole: true, ..open };
    let (network, fixture, agent, id) = connected(500).await;
    for (up, down) in [(closed, open), (open, closed), (closed, closed)] {
        let reconnects = fixture.server.log().matches("session ended").count();
        network.set(up, down);
        eventually("the server ends the session", async || {
            (fixture.server.log().matches("session ended").count() > reconnects).then_some(())
        })
        .await;
        network.set(open, open);
        status_is(&fixture, &id, "online").await;
        eventually("a script runs again", async || {
            let body = json!({"command": "execute", "data": {"script": "hello"}});
            let made = fixture.api.post(&format!("/api/agents/{id}/command"), body).await;
            (made.status == 202).then_some(())
        })
        .await;
    }
    drop(agent);
}
