//! A host that goes offline during its update: its wave continues without it.

use muster_supervisor::fault_injection::CrashPoint;
use muster_tests::{Fixture, JsonFields as _, Publisher, ServerOptions, fake_time};
use serde_json::{Value, json};

use super::groups::group;
use super::{options, runs};

#[tokio::test]
async fn host_that_disconnects_during_its_update_delays_no_other_and_counts_after_reconnecting() {
    // Fifteen minutes in as many seconds. An agent with rare heartbeats does not count as offline
    // in between.
    let hour_ms = 3_600_000;
    let moved = fake_time("+0 x60");
    let server = moved
        .iter()
        .fold(ServerOptions::default(), |options, (name, value)| options.with(name, value))
        .with("MUSTER_HEARTBEAT_INTERVAL_MS", hour_ms);
    let fixture = Fixture::with(server).await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let (first, _) = options(&publisher, "first", "0.1.0");
    let (mut first, first_id) =
        fixture.agent(first.with("MUSTER_FAULT", CrashPoint::TrialSaved.name())).await;
    // Of another cohort: the canary of its own would hold it back.
    let (second, _) = options(&publisher, "second", "0.1.0");
    let (_second, second_id) = fixture.agent(second.with("MUSTER_SERVICE_MANAGER", "openrc")).await;
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
    let made = fixture.api.post("/api/groups", body).await.expect(201);
    let id = made.id();
    first.process().ended().await;
    first.cut_power();

    let without_it =
        |shown: &Value| shown["unreachable_count"] == 1 && shown["up_to_date_count"] == 1;
    let shown = group(&fixture, id, "the others are there", without_it).await;
    assert_eq!((&shown["state"], &shown["failed_count"]), (&json!("active"), &json!(0)));
    assert_eq!(shown["problems"][0]["agent_id"], first_id, "{shown}");
    assert_eq!(shown["problems"][0]["code"], "unreachable", "{shown}");
    runs(&fixture, &second_id, "0.2.0").await;

    first.set("MUSTER_FAULT", None);
    first.resume();
    runs(&fixture, &first_id, "0.2.0").await;
    let all = |shown: &Value| shown["unreachable_count"] == 0 && shown["up_to_date_count"] == 2;
    group(&fixture, id, "all are there", all).await;
}
