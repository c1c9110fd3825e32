//! `/api/schedules`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use muster_tests::{Fixture, JsonFields as _, on_both_databases};
use serde_json::{Value, json};

use super::{counting_agent, disabled, fires, schedule, with_fires};

on_both_databases!(schedule_is_created_changed_disabled_run_and_deleted);

async fn schedule_is_created_changed_disabled_run_and_deleted(fixture: Fixture) {
    let (_agent, _) = counting_agent(&fixture).await;
    let rule = json!({"cron": "0 9 * * MON-FRI", "time_zone": "Europe/Berlin"});
    let id = schedule(&fixture, rule.clone(), json!({})).await;
    let path = format!("/api/schedules/{id}");
    let shown = fixture.api.get(&path).await.expect(200);
    assert_eq!(shown["sentence"], "every weekday at 09:00, Europe/Berlin");
    assert_eq!((&shown["state"], &shown["missed"]), (&json!("active"), &json!("once")));
    assert_eq!(shown["rule"], rule);
    let next = shown.text("next_due_at").to_owned();
    let preview = fixture.api.get(&format!("{path}/preview?count=3")).await.expect(200);
    assert_eq!(preview["items"][0]["at"], next.as_str());
    assert_eq!(preview.list("items").len(), 3);

    let change = json!({"rule": {"cron": "30 2 * * *"}, "overlap": "allow", "ends_at": null});
    let changed = fixture.api.patch(&path, change).await.expect(200);
    assert_eq!(changed["sentence"], "every day at 02:30, UTC");
    assert_eq!(changed["rule"]["time_zone"], "UTC", "defaults are stored");
    assert_eq!(changed["missed"], "once", "other fields keep their values");

    let disabled = fixture.api.post(&format!("{path}/disable"), json!({})).await.expect(200);
    assert_eq!((&disabled["state"], &disabled["next_due_at"]), (&json!("disabled"), &Value::Null));
    let run = fixture.api.post(&format!("{path}/run"), json!({})).await.expect(202);
    let job = fixture.api.get(&format!("/api/jobs/{}", run.text("job_id"))).await.expect(200);
    assert_eq!(job["script"], "count");
    let fires = fires(&fixture, &id).await;
    assert_eq!(fires.len(), 1);
    assert_eq!((&fires[0]["is_manual"], &fires[0]["job_id"]), (&json!(true), &run["job_id"]));
    let page = fixture.api.get("/api/executions?trigger=schedule&limit=5").await.expect(200);
    assert_eq!(page.list("items").len(), 1);

    fixture.api.post(&format!("{path}/enable"), json!({})).await.expect(200);
    fixture.api.delete(&path).await.expect(204);
    fixture.api.get(&path).await.expect_problem(404, "not_found");
    fixture.api.get(&format!("/api/jobs/{}", run.text("job_id"))).await.expect(200);
    let page = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let actions: Vec<_> = page.list("items").iter().map(|entry| entry.text("action")).collect();
    for action in ["create", "update", "disable", "run", "enable", "delete"] {
        let action = format!("schedule.{action}");
        assert!(actions.contains(&action.as_str()), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn invalid_schedules_are_refused_by_field() {
    let fixture = Fixture::on_sqlite().await;
    let valid = json!({"name": "n", "rule": {"cron": "@daily"},
        "job": {"script": "x", "target": {"expression": "all"}}});
    for (field, value, named) in [
        ("rule", json!({"cron": "61 * * * *"}), "rule.cron"),
        ("rule", json!({"cron": "0 0 30 2 *"}), "rule.cron"),
        ("rule", json!({"cron": "@daily", "time_zone": "Mars/Base"}), "rule.time_zone"),
        ("rule", json!({"every_ms": 999}), "rule.every_ms"),
        ("rule", json!({}), "rule"),
        ("rule", json!({"cron": "@daily", "every_ms": 5_000}), "rule.cron"),
        ("jitter_ms", json!(86_400_001), "jitter_ms"),
        ("late_limit_ms", json!(366_u64 * 86_400_000 + 1), "late_limit_ms"),
        ("max_catch_up", json!(101), "max_catch_up"),
        ("name", json!(" "), "name"),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        let problem = fixture.api.post("/api/schedules", body).await;
        let problem = problem.expect_problem(422, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], named, "{problem}");
    }
    let mut past = valid.clone();
    past["rule"] = json!({"at": "2020-01-01T00:00:00Z"});
    fixture.api.post("/api/schedules", past).await.expect_problem(409, "schedule_ended");
    fixture.api.post("/api/schedules", valid.clone()).await.expect(201);
    fixture.api.post("/api/schedules", valid).await.expect_problem(409, "schedule_exists");
}

#[tokio::test]
async fn preview_shows_what_changes_of_the_clocks_do() {
    let fixture = Fixture::on_sqlite().await;
    let body = json!({"rule": {"cron": "30 2 * * *", "time_zone": "Europe/Berlin"},
        "starts_at": "2030-03-30T00:00:00Z", "ends_at": "2030-04-02T00:00:00Z"});
    let preview = fixture.api.post("/api/schedules/preview", body).await.expect(200);
    let items = preview.list("items");
    let local: Vec<_> = items.iter().map(|item| item.text("local")).collect();
    assert_eq!(
        local,
        ["2030-03-30T02:30:00+01:00", "2030-03-31T03:00:00+02:00", "2030-04-01T02:30:00+02:00"]
    );
    assert_eq!(items[1]["clock_change"], "after_gap");
    assert_eq!(items[0].get("clock_change"), None);
}

#[tokio::test]
async fn job_that_is_refused_is_recorded_with_the_reason() {
    let fixture = Fixture::on_sqlite().await;
    let id = schedule(&fixture, json!({"every_ms": 1_000}), json!({})).await;
    let seen = with_fires(&fixture, &id, "refused", 2).await;
    assert_eq!(seen[0]["reason"], "job_refused");
    assert!(seen[0].text("detail").contains("no agents"), "{}", seen[0]);
}

#[tokio::test]
async fn schedule_that_is_due_once_ends() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = counting_agent(&fixture).await;
    let at = (chrono::Utc::now() + chrono::Duration::seconds(2)).to_rfc3339();
    let id = schedule(&fixture, json!({"at": at}), json!({})).await;
    let fires = with_fires(&fixture, &id, "fired", 1).await;
    assert_eq!(fires.len(), 1);
    let shown = fixture.api.get(&format!("/api/schedules/{id}")).await.expect(200);
    assert_eq!((&shown["state"], &shown["next_due_at"]), (&json!("ended"), &Value::Null));
}

#[tokio::test]
async fn history_has_planned_and_actual_times_of_fires_with_jitter() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = counting_agent(&fixture).await;
    let spread = json!({"jitter_ms": 500, "overlap": "allow"});
    let id = schedule(&fixture, json!({"every_ms": 1_000}), spread).await;
    with_fires(&fixture, &id, "fired", 4).await;
    let fired = disabled(&fixture, &id).await;
    let fired: Vec<_> = fired.iter().filter(|fire| fire["state"] == "fired").collect();
    let instant = |fire: &Value, field: &str| {
        let instant: DateTime<Utc> = fire.text(field).parse().expect("RFC 3339");
        instant.timestamp_millis()
    };
    let mut delays = BTreeSet::new();
    for fire in &fired {
        let delay = instant(fire, "planned_at") - instant(fire, "due_at");
        assert!((0..=500).contains(&delay), "{fire}");
        assert!(instant(fire, "fired_at") >= instant(fire, "planned_at"), "{fire}");
        delays.insert(delay);
    }
    assert!(delays.len() > 1, "the delays differ: {fired:#?}");
}
