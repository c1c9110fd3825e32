//! Clocks that are wrong by hours, on either side: no decision depends on them.

use std::time::{Duration, Instant};

use muster_tests::{
    AgentOptions, FakeAgent, Fixture, JsonFields as _, Script, eventually, fake_time,
    on_both_databases,
};
use nix::sys::signal::Signal;
use serde_json::json;

on_both_databases!(agent_with_a_clock_wrong_by_hours_works_normally);

async fn agent_with_a_clock_wrong_by_hours_works_normally(fixture: Fixture) {
    for (name, offset) in [("slow", "-7h"), ("fast", "+9h")] {
        let options = AgentOptions {
            name: name.to_owned(),
            ..AgentOptions::with_scripts([Script::new("now", "date +%s; sleep 0.2")])
        };
        let moved = fake_time(offset);
        let options =
            moved.iter().fold(options, |options, (name, value)| options.with(name, value));
        let (_agent, id) = fixture.agent(options).await;
        let body = json!({
            "command": "execute", "expires_in_ms": 20_000,
            "data": {"script": "now", "timeout_ms": 20_000},
        });
        let made = fixture.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
        let command = fixture.api.finished(made.id()).await;
        assert_eq!(command["state"], "succeeded", "{name}: {command}");
        // The instants are the server's and in order. The duration is a difference, not an instant.
        let instants = ["created_at", "delivered_at", "started_at", "finished_at"];
        let instants = instants.map(|at| command[at].as_str().expect("an instant").to_owned());
        assert!(instants.is_sorted(), "{command}");
        let duration = command["result"].number("duration_ms");
        assert!((100..20_000).contains(&duration), "{command}");
        let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        let seen = shown.text("last_seen_at");
        let seen: chrono::DateTime<chrono::Utc> = seen.parse().expect("RFC 3339");
        let age = chrono::Utc::now().signed_duration_since(seen);
        assert!(age.num_minutes().abs() < 5, "{shown}");
    }
}

#[tokio::test]
async fn heartbeats_with_any_timestamp_are_accepted() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    for timestamp in [
        json!("2001-01-01T12:00:00"),
        json!("2099-12-31T23:59:59Z"),
        json!("2024-01-01T12:00:00.123456"),
        json!("yesterday"),
        json!(1_700_000_000),
        json!(null),
    ] {
        let status = json!({"uptime": "running", "timestamp": timestamp});
        agent.send(json!({"type": "heartbeat", "status": status})).await;
        agent.expect("heartbeat_ack").await;
    }
    let shown = fixture.online(&id).await;
    let seen = shown.text("last_seen_at");
    let seen: chrono::DateTime<chrono::Utc> = seen.parse().expect("RFC 3339");
    let age = chrono::Utc::now().signed_duration_since(seen);
    assert!(age.num_minutes().abs() < 5, "{shown}");
}

#[tokio::test]
async fn suspended_server_keeps_its_timers() {
    let mut fixture = Fixture::on_sqlite().await;
    let (mut agent, id) =
        fixture.agent(AgentOptions::with_scripts([Script::new("now", "date")])).await;
    agent.stop();
    let stopped_at = Instant::now();
    fixture.server.process().signal(Signal::SIGSTOP);
    // Longer than the interval of any periodic task.
    let has_passed = || (stopped_at.elapsed() > Duration::from_secs(6)).then_some(());
    eventually("the server has stood still", async || has_passed()).await;
    fixture.server.process().signal(Signal::SIGCONT);
    let body = json!({
        "command": "execute", "expires_in_ms": 1_000, "data": {"script": "now"},
    });
    let made = fixture.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
    fixture.api.in_state(made.id(), "expired").await;
}
