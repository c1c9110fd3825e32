//! Calendars hold back due times, runs and updates; snoozed schedules; simulations.

use chrono::{Duration, Utc};
use muster_tests::{Fixture, JsonFields as _, on_both_databases};
use serde_json::{Value, json};

use super::{counting_agent, fires, schedule, with_fires};

on_both_databases!(
    freeze_skips_due_times_with_a_reason_and_refuses_runs_unless_overridden,
    snoozed_schedule_records_what_it_skips_and_continues,
);

/// From a minute ago until in an hour.
fn now() -> (String, String) {
    let (from, until) = (Utc::now() - Duration::minutes(1), Utc::now() + Duration::hours(1));
    (from.to_rfc3339(), until.to_rfc3339())
}

async fn freeze(fixture: &Fixture, fields: Value) -> String {
    let (from, until) = now();
    let mut body = json!({"name": "sale", "entries":
        [{"kind": "freeze", "note": "black friday", "starts_at": from, "ends_at": until}]});
    for (name, value) in fields.as_object().expect("an object") {
        body[name] = value.clone();
    }
    fixture.api.post("/api/calendars", body).await.expect(201).id().to_owned()
}

async fn job_count(fixture: &Fixture) -> usize {
    fixture.api.get("/api/jobs?limit=500").await.expect(200).list("items").len()
}

async fn freeze_skips_due_times_with_a_reason_and_refuses_runs_unless_overridden(fixture: Fixture) {
    let (_agent, _) = counting_agent(&fixture).await;
    let calendar = freeze(&fixture, json!({})).await;
    let id = schedule(&fixture, json!({"every_ms": 1_000}), json!({})).await;
    let skipped = with_fires(&fixture, &id, "skipped", 2).await;
    let first = &skipped[0];
    assert_eq!(first["reason"], "calendar", "{first}");
    assert!(first.text("detail").contains("black friday"), "{first}");
    assert_eq!(job_count(&fixture).await, 0);
    let job = json!({"script": "count", "target": {"expression": "all"}});
    fixture.api.post("/api/jobs", job.clone()).await.expect_problem(409, "frozen");
    let run = format!("/api/schedules/{id}/run");
    fixture.api.post(&run, json!({})).await.expect_problem(409, "frozen");
    let agent = fixture.api.get("/api/agents").await.expect(200)["items"][0].id().to_owned();
    let command = json!({"command": "execute", "data": {"script": "count"}});
    let path = format!("/api/agents/{agent}/command");
    fixture.api.post(&path, command).await.expect_problem(409, "frozen");
    let member = fixture.api.post("/api/keys", json!({"name": "m", "role": "member"})).await;
    let member = fixture.api.with_key(member.expect(201).text("key"));
    let mut refused = job.clone();
    refused["calendar_override"] = json!("in a hurry");
    member.post("/api/jobs", refused).await.expect_problem(403, "missing_scope");
    let mut overridden = job.clone();
    overridden["calendar_override"] = json!(" ");
    fixture.api.post("/api/jobs", overridden.clone()).await.expect_problem(422, "invalid_field");
    overridden["calendar_override"] = json!("site is down");
    fixture.api.post("/api/jobs", overridden).await.expect(202);
    let audit = fixture.api.get("/api/audit?action=job.submit").await.expect(200);
    assert_eq!(audit["items"][0]["detail"]["calendar_override"], "site is down", "{audit}");
    let reason = json!({"calendar_override": "by hand"});
    fixture.api.post(&run, reason).await.expect(202);
    fixture.api.delete(&format!("/api/calendars/{calendar}")).await.expect(204);
    // What was skipped is not caught up on.
    let known = fires(&fixture, &id).await;
    with_fires(&fixture, &id, "fired", 2).await;
    let later = fires(&fixture, &id).await;
    for fire in known.iter().filter(|fire| fire["state"] == "skipped") {
        assert!(later.contains(fire), "{fire} changed");
    }
}

async fn snoozed_schedule_records_what_it_skips_and_continues(fixture: Fixture) {
    let (_agent, _) = counting_agent(&fixture).await;
    let id = schedule(&fixture, json!({"every_ms": 1_000}), json!({"overlap": "allow"})).await;
    let path = format!("/api/schedules/{id}/snooze");
    let past = json!({"until": "2026-01-01T00:00:00Z"});
    fixture.api.post(&path, past).await.expect_problem(422, "invalid_field");
    let until = Utc::now() + Duration::hours(1);
    let snoozed = fixture.api.post(&path, json!({"until": until.to_rfc3339()})).await.expect(200);
    assert!(!snoozed["snoozed_until"].is_null());
    let skipped = with_fires(&fixture, &id, "skipped", 2).await;
    let snoozed = skipped.iter().filter(|fire| fire["reason"] == "snoozed").count();
    assert!(snoozed >= 2, "{skipped:#?}");
    fixture.api.post(&path, json!({})).await.expect(200);
    let fired = fires(&fixture, &id).await.iter().filter(|fire| fire["state"] == "fired").count();
    with_fires(&fixture, &id, "fired", fired + 1).await;
}

#[tokio::test]
async fn calendar_holds_back_only_what_it_names() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = counting_agent(&fixture).await;
    let job = json!({"script": "count", "target": {"expression": "all"}});
    let by_tag = freeze(&fixture, json!({"target": {"tags": ["web"]}})).await;
    fixture.api.post("/api/jobs", job.clone()).await.expect(202);
    let agent = fixture.api.get("/api/agents").await.expect(200)["items"][0].id().to_owned();
    let tags = json!({"tags": ["web"]});
    fixture.api.patch(&format!("/api/agents/{agent}"), tags).await.expect(200);
    fixture.api.post("/api/jobs", job.clone()).await.expect_problem(409, "frozen");
    fixture.api.delete(&format!("/api/calendars/{by_tag}")).await.expect(204);
    let rule = json!({"every_ms": 1_000});
    let id = schedule(&fixture, rule.clone(), json!({"overlap": "allow"})).await;
    let other = json!({"name": "other", "overlap": "allow"});
    let other = schedule(&fixture, rule, other).await;
    freeze(&fixture, json!({"name": "named", "schedule_ids": [id]})).await;
    fixture.api.post("/api/jobs", job).await.expect(202);
    with_fires(&fixture, &id, "skipped", 1).await;
    let fired =
        fires(&fixture, &other).await.iter().filter(|fire| fire["state"] == "fired").count();
    with_fires(&fixture, &other, "fired", fired + 1).await;
    // Only who may manage the work of others.
    let member = fixture.api.post("/api/keys", json!({"name": "m", "role": "member"})).await;
    let member = fixture.api.with_key(member.expect(201).text("key"));
    let body = json!({"name": "mine", "entries": []});
    member.post("/api/calendars", body).await.expect_problem(403, "missing_scope");
}

#[tokio::test]
async fn simulation_shows_two_years_with_their_changes_of_the_clocks_and_calendars() {
    let fixture = Fixture::on_sqlite().await;
    let rule = json!({"cron": "30 2 * * *", "time_zone": "Europe/Berlin"});
    let id = schedule(&fixture, rule.clone(), json!({})).await;
    schedule(&fixture, rule, json!({"name": "same time"})).await;
    let entries = json!([{"kind": "exclusion", "dates": ["2027-01-01"]}]);
    let body = json!({"name": "holidays", "time_zone": "Europe/Berlin", "entries": entries});
    fixture.api.post("/api/calendars", body).await.expect(201);
    let two_years = json!({"from": "2027-01-01T00:00:00Z", "for_ms": 730 * 86_400_000_u64});
    let all = fixture.api.post("/api/schedules/simulate", two_years.clone()).await.expect(200);
    assert_eq!((&all["due_count"], &all["blocked_count"]), (&json!(1460), &json!(2)));
    assert_eq!((&all["clock_change_count"], &all["collision_count"]), (&json!(8), &json!(729)));
    let mut one = two_years;
    one["schedule_id"] = json!(id);
    let one = fixture.api.post("/api/schedules/simulate", one).await.expect(200);
    assert_eq!((&one["due_count"], &one["collision_count"]), (&json!(730), &json!(0)));
    assert_eq!(one["clock_changes"][0]["at"], "2027-03-28T01:00:00.000Z", "{one}");
    assert_eq!(one["clock_changes"][0]["clock_change"], "after_gap");
    let far = json!({"for_ms": 732 * 86_400_000_u64});
    fixture.api.post("/api/schedules/simulate", far).await.expect_problem(422, "invalid_field");
}

#[tokio::test]
async fn calendars_are_managed_from_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = counting_agent(&fixture).await;
    let cli = fixture.cli().await;
    let zone = ["--time-zone", "Europe/Berlin", "--window", "sat,sun 22:00-04:00"];
    let add = [&["calendars", "add", "nights"][..], &zone, &["--on", "tag:db", "--json"]].concat();
    let added = cli.run(&add).await;
    added.expect(0);
    assert_eq!(added.json()["entries"][0]["weekly"]["from"], "22:00");
    let listed = cli.run(&["calendars"]).await.expect(0);
    assert!(listed.contains("nights") && listed.contains("tag:db"), "{listed}");
    let (from, until) = now();
    let span = format!("{from}..{until}");
    cli.run(&["calendars", "add", "sale", "--freeze", &span]).await.expect(0);
    let refused = cli.run(&["run", "--on", "all", "count", "--detach"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("has a freeze now"), "{}", refused.stderr);
    let forced = ["run", "--on", "all", "--detach", "--override-calendar", "site is down", "count"];
    cli.run(&forced).await.expect(0);
    let wrong = cli.run(&["calendars", "edit", "nights", "--window", "sat 22-04"]).await;
    wrong.expect(1);
    assert!(wrong.stderr.contains("--window"), "{}", wrong.stderr);
    cli.run(&["calendars", "remove", "sale"]).await.expect(0);
    let create = ["schedules", "create", "n", "--cron", "0 2 * * *", "--on", "all", "count"];
    cli.run(&create).await.expect(0);
    let simulated = cli.run(&["schedules", "simulate", "n", "--days", "10", "--json"]).await;
    simulated.expect(0);
    assert_eq!(simulated.json()["due_count"], 10);
    let shown = cli.run(&["schedules", "simulate", "--days", "10"]).await.expect(0);
    assert!(shown.contains("10"), "{shown}");
    let snooze = ["schedules", "snooze", "n", "--until", "2099-01-01T00:00:00Z", "--json"];
    assert!(!cli.run(&snooze).await.json()["snoozed_until"].is_null());
    let ended = cli.run(&["schedules", "snooze", "n", "--end", "--json"]).await;
    assert!(ended.json()["snoozed_until"].is_null());
}
