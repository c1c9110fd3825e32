//! Clocks that are wrong by hours, on either side: they inform, they decide nothing.

use std::time::{Duration, Instant};

use muster_tests::{
    AgentOptions, FakeAgent, Script, World, eventually, fake_time, on_both_databases,
};
use nix::sys::signal::Signal;
use serde_json::json;

on_both_databases!(an_agent_whose_clock_is_wrong_by_hours_works_like_any_other);

async fn an_agent_whose_clock_is_wrong_by_hours_works_like_any_other(world: World) {
    for (name, offset) in [("slow", "-7h"), ("fast", "+9h")] {
        let options = AgentOptions {
            name: name.to_owned(),
            ..AgentOptions::with_scripts([Script::new("now", "date +%s; sleep 0.2")])
        };
        let moved = fake_time(offset);
        let options =
            moved.iter().fold(options, |options, (name, value)| options.with(name, value));
        let (_agent, id) = world.agent(options).await;
        let body = json!({
            "command": "execute", "expires_in_ms": 20_000,
            "data": {"script": "now", "timeout_ms": 20_000},
        });
        let made = world.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
        let command = world.api.finished(made["id"].as_str().expect("an id")).await;
        assert_eq!(command["state"], "succeeded", "{name}: {command}");
        // Instants are the server's, and in order; the duration is a difference, not an instant.
        let instants = ["created_at", "delivered_at", "started_at", "finished_at"];
        let instants = instants.map(|at| command[at].as_str().expect("an instant").to_owned());
        assert!(instants.is_sorted(), "{command}");
        let duration = command["result"]["duration_ms"].as_u64().expect("a duration");
        assert!((100..20_000).contains(&duration), "{command}");
        let shown = world.api.get(&format!("/api/agents/{id}")).await.expect(200);
        let seen = shown["last_seen_at"].as_str().expect("an instant");
        let seen: chrono::DateTime<chrono::Utc> = seen.parse().expect("RFC 3339");
        let age = chrono::Utc::now().signed_duration_since(seen);
        assert!(age.num_minutes().abs() < 5, "{shown}");
    }
}

#[tokio::test]
async fn heartbeats_may_say_any_time_in_any_form() {
    let world = World::on_sqlite().await;
    let (id, key) = world.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&world.server.address(), &key, "one").await;
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
    let shown = world.online(&id).await;
    let seen = shown["last_seen_at"].as_str().expect("an instant");
    let seen: chrono::DateTime<chrono::Utc> = seen.parse().expect("RFC 3339");
    let age = chrono::Utc::now().signed_duration_since(seen);
    assert!(age.num_minutes().abs() < 5, "{shown}");
}

#[tokio::test]
async fn a_server_that_stood_still_for_a_while_keeps_its_clocks() {
    let mut world = World::on_sqlite().await;
    let (mut agent, id) =
        world.agent(AgentOptions::with_scripts([Script::new("now", "date")])).await;
    agent.stop();
    let stopped_at = Instant::now();
    world.server.process().signal(Signal::SIGSTOP);
    // Longer than between two turns of whatever is done every second or two.
    let has_passed = || (stopped_at.elapsed() > Duration::from_secs(6)).then_some(());
    eventually("the server has stood still", async || has_passed()).await;
    world.server.process().signal(Signal::SIGCONT);
    let body = json!({
        "command": "execute", "expires_in_ms": 1_000, "data": {"script": "now"},
    });
    let made = world.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
    world.api.in_state(made["id"].as_str().expect("an id"), "expired").await;
}
