//! Schedules with real servers and agents.

mod api;
mod approvals;
mod bad_rows;
mod calendars;
mod clocks;
mod command_line;
mod hooks;
mod kills;
mod library;
mod offline;
mod overlap;
mod owners;
mod secrets;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use muster_tests::{Agent, AgentOptions, Fixture, JsonFields as _, Script, eventually};
use serde_json::{Value, json};

/// An agent whose script `count` appends a line to a file, and the path of the file.
async fn counting_agent(fixture: &Fixture) -> (Agent, std::path::PathBuf) {
    let file = fixture.test_dir.path().join("runs");
    let script = Script::new("count", &format!("echo run >> {}", file.display()));
    let (agent, _) = fixture.agent(AgentOptions::with_scripts([script])).await;
    (agent, file)
}

/// A schedule that runs `count` on all agents, with these further fields.
async fn schedule(fixture: &Fixture, rule: Value, fields: Value) -> String {
    let mut body = json!({"name": "counts", "rule": rule,
        "job": {"script": "count", "target": {"expression": "all"}}});
    for (name, value) in fields.as_object().expect("an object") {
        body[name] = value.clone();
    }
    fixture.api.post("/api/schedules", body).await.expect(201).id().to_owned()
}

/// All fires of a schedule, the earliest first.
async fn fires(fixture: &Fixture, id: &str) -> Vec<Value> {
    let path = format!("/api/schedules/{id}/fires?limit=500");
    let page = fixture.api.get(&path).await.expect(200);
    page.list("items").iter().rev().cloned().collect()
}

/// Waits until the schedule has so many fires in a state.
async fn with_fires(fixture: &Fixture, id: &str, state: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} fires are {state}"), async || {
        let path = format!("/api/schedules/{id}/fires?limit=500");
        let page = fixture.api.try_send(reqwest::Method::GET, &path, &[], None).await.ok()?;
        let fires: Vec<Value> = page.json()["items"].as_array()?.iter().rev().cloned().collect();
        (fires.iter().filter(|fire| fire["state"] == state).count() >= count).then_some(fires)
    })
    .await
}

/// Disables the schedule, so that its fires do not change any more, and returns them.
async fn disabled(fixture: &Fixture, id: &str) -> Vec<Value> {
    let path = format!("/api/schedules/{id}/disable");
    fixture.api.post(&path, json!({})).await.expect(200);
    fires(fixture, id).await
}

fn due_ms(fire: &Value) -> i64 {
    let due: DateTime<Utc> = fire.text("due_at").parse().expect("RFC 3339");
    due.timestamp_millis()
}

/// Checks that every due time has one fire and every fire that fired one job, and that there are no
/// other jobs.
async fn check_once_each(fixture: &Fixture, fires: &[Value], every_ms: i64) {
    for pair in fires.windows(2) {
        let gap = due_ms(&pair[1]) - due_ms(&pair[0]);
        let omitted = pair[1]["omitted_before"].as_i64().expect("a number");
        assert_eq!(gap, every_ms * (omitted + 1), "a due time is missing or repeated: {pair:#?}");
    }
    let fired: Vec<_> = fires.iter().filter(|fire| fire["state"] == "fired").collect();
    let of_fires: BTreeSet<&str> = fired.iter().map(|fire| fire.text("job_id")).collect();
    assert_eq!(of_fires.len(), fired.len(), "two fires have the same job");
    for fire in fires.iter().filter(|fire| fire["state"] != "fired") {
        assert!(fire["job_id"].is_null(), "{fire}");
    }
    let page = fixture.api.get("/api/jobs?limit=500").await.expect(200);
    let jobs: BTreeSet<&str> = page.list("items").iter().map(|job| job.id()).collect();
    assert_eq!(jobs, of_fires, "jobs without a fire, or fires without a job");
}
