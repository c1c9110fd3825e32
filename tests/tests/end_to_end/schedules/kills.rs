//! Servers that are killed, stopped for a while or down: each due time is decided once.

use std::time::Duration;

use muster_tests::{Fixture, eventually, on_both_databases, pass};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{check_once_each, counting_agent, disabled, fires, schedule, with_fires};

on_both_databases!(
    each_due_time_makes_one_job_although_the_server_is_killed_around_it,
    due_times_during_a_suspension_are_recorded_and_follow_the_policy,
    due_times_during_a_downtime_are_recorded_logged_and_follow_the_policy,
);

const EVERY_MS: i64 = 1_000;

async fn each_due_time_makes_one_job_although_the_server_is_killed_around_it(fixture: Fixture) {
    let mut fixture = fixture;
    let (_agent, file) = counting_agent(&fixture).await;
    let policy = json!({"missed": "all", "max_catch_up": 100, "overlap": "allow"});
    let id = schedule(&fixture, json!({"every_ms": EVERY_MS}), policy).await;
    // Moments before, at and after due times.
    for moment_ms in [0, 150, 350, 550, 750, 950] {
        let known = fires(&fixture, &id).await.len();
        with_fires(&fixture, &id, "fired", known + 1).await;
        pass(Duration::from_millis(moment_ms)).await;
        fixture.server.kill_9();
        fixture.server.resume();
    }
    let known = fires(&fixture, &id).await.len();
    with_fires(&fixture, &id, "fired", known + 1).await;
    let fires = disabled(&fixture, &id).await;
    check_once_each(&fixture, &fires, EVERY_MS).await;
    assert!(fires.iter().all(|fire| fire["state"] != "pending"), "{fires:#?}");
    let fired = fires.iter().filter(|fire| fire["state"] == "fired").count();
    eventually("every job has run once", async || {
        let runs = std::fs::read_to_string(&file).unwrap_or_default().lines().count();
        assert!(runs <= fired, "{runs} runs of {fired} jobs");
        (runs == fired).then_some(())
    })
    .await;
}

async fn due_times_during_a_suspension_are_recorded_and_follow_the_policy(fixture: Fixture) {
    let mut fixture = fixture;
    let (_agent, _) = counting_agent(&fixture).await;
    let policy = json!({"missed": "skip", "overlap": "allow"});
    let id = schedule(&fixture, json!({"every_ms": EVERY_MS}), policy).await;
    with_fires(&fixture, &id, "fired", 1).await;
    fixture.server.process().signal(Signal::SIGSTOP);
    pass(Duration::from_millis(4_500)).await;
    fixture.server.process().signal(Signal::SIGCONT);
    with_fires(&fixture, &id, "skipped", 2).await;
    let count = fires(&fixture, &id).await.len();
    with_fires(&fixture, &id, "fired", count.min(3)).await;
    let fires = disabled(&fixture, &id).await;
    check_once_each(&fixture, &fires, EVERY_MS).await;
    let missed: Vec<_> = fires.iter().filter(|fire| fire["reason"] == "missed").collect();
    assert!(missed.len() >= 2, "{fires:#?}");
    assert!(missed.iter().any(|fire| fire["is_missed"] == true), "{missed:#?}");
}

async fn due_times_during_a_downtime_are_recorded_logged_and_follow_the_policy(fixture: Fixture) {
    let mut fixture = fixture;
    let (_agent, _) = counting_agent(&fixture).await;
    let policy = json!({"missed": "all", "max_catch_up": 2, "overlap": "allow"});
    let id = schedule(&fixture, json!({"every_ms": EVERY_MS}), policy).await;
    with_fires(&fixture, &id, "fired", 1).await;
    fixture.server.stop();
    pass(Duration::from_millis(6_500)).await;
    fixture.server.resume();
    with_fires(&fixture, &id, "skipped", 3).await;
    // Before it is disabled, which skips what has not started.
    eventually("the newest missed fires have jobs", async || {
        let fires = fires(&fixture, &id).await;
        let is_caught_up =
            |fire: &&serde_json::Value| fire["is_missed"] == true && fire["state"] == "fired";
        (fires.iter().filter(is_caught_up).count() >= 2).then_some(())
    })
    .await;
    let fires = disabled(&fixture, &id).await;
    check_once_each(&fixture, &fires, EVERY_MS).await;
    let caught_up =
        fires.iter().filter(|fire| fire["is_missed"] == true && fire["state"] == "fired");
    assert!(caught_up.count() >= 2, "{fires:#?}");
    assert!(fires.iter().any(|fire| fire["reason"] == "over_limit"), "{fires:#?}");
    assert!(fixture.server.log().contains("a schedule missed fires"), "it is logged");
}
