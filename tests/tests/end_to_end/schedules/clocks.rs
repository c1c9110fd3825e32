//! Wall clocks that are set forward and back: due times come from the rule.

use std::path::Path;

use muster_tests::{Fixture, ServerOptions, eventually, fake_time};
use serde_json::json;

use super::{check_once_each, disabled, fires, schedule, with_fires};

/// An hour, in which the schedule below is due many times.
const EVERY_MS: i64 = 10 * 60_000;

fn set_clock(file: &Path, offset: &str) {
    std::fs::write(file, offset).expect("write the offset");
}

#[tokio::test]
async fn clock_that_is_set_forward_and_back_repeats_no_due_time() {
    let folder = muster_tests::TestDir::new();
    let file = folder.path().join("clock");
    set_clock(&file, "+0s");
    let mut options = ServerOptions::default()
        .with("FAKETIME_TIMESTAMP_FILE", file.display())
        .with("FAKETIME_NO_CACHE", "1");
    for (name, value) in fake_time("+0s") {
        if name != "FAKETIME" {
            options = options.with(name, value);
        }
    }
    let fixture = Fixture::with(options).await;
    let policy = json!({"missed": "all", "max_catch_up": 100, "overlap": "allow",
        "job": {"argv": ["true"], "target": {"tags": ["none"]}}});
    let id = schedule(&fixture, json!({"every_ms": EVERY_MS}), policy).await;
    assert!(fires(&fixture, &id).await.is_empty());

    set_clock(&file, "+61m");
    // A change wakes the server, which also looks once a minute.
    let touch = json!({"jitter_ms": 0});
    fixture.api.patch(&format!("/api/schedules/{id}"), touch.clone()).await.expect(200);
    let forward = with_fires(&fixture, &id, "refused", 6).await;
    assert_eq!(forward.len(), 6, "{forward:#?}");

    set_clock(&file, "+31m");
    fixture.api.patch(&format!("/api/schedules/{id}"), touch.clone()).await.expect(200);
    eventually("the server has the earlier time", async || {
        let shown = fixture.api.get(&format!("/api/schedules/{id}")).await.expect(200);
        shown["next_due_at"].is_string().then_some(())
    })
    .await;
    assert_eq!(fires(&fixture, &id).await.len(), 6, "all of these times were handled");

    set_clock(&file, "+81m");
    fixture.api.patch(&format!("/api/schedules/{id}"), touch).await.expect(200);
    with_fires(&fixture, &id, "refused", 8).await;
    let all = disabled(&fixture, &id).await;
    assert_eq!(all.len(), 8, "{all:#?}");
    check_once_each(&fixture, &all, EVERY_MS).await;
}
