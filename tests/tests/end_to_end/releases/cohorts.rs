//! Cohorts of a group: the first host of each runs the new version, and an execution, before the others.

use muster_tests::{Fixture, JsonFields as _, Publisher, eventually, on_both_databases};
use serde_json::{Value, json};

use super::groups::group;
use super::{options, runs};

on_both_databases!(
    canary_of_each_cohort_runs_an_execution_before_the_others_although_the_server_is_killed,
    cohort_whose_canary_runs_no_execution_is_held_while_another_goes_on,
);

fn cohort<'a>(shown: &'a Value, service_manager: &str) -> &'a Value {
    let cohorts = shown["cohorts"].as_array().expect("cohorts");
    cohorts.iter().find(|cohort| cohort["service_manager"] == service_manager).expect("the cohort")
}

async fn canary_of_each_cohort_runs_an_execution_before_the_others_although_the_server_is_killed(
    mut fixture: Fixture,
) {
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let mut hosts = Vec::new();
    for (name, manager) in [("one", "systemd"), ("two", "systemd"), ("three", "openrc")] {
        let (options, _) = options(&publisher, name, "0.1.0");
        hosts.push(fixture.agent(options.with("MUSTER_SERVICE_MANAGER", manager)).await);
    }
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
    let made = fixture.api.post("/api/groups", body).await.expect(201);
    let id = made.id().to_owned();
    let shown = group(&fixture, &id, "the first wave has begun", |shown| shown["wave"] == 1).await;
    assert_eq!(cohort(&shown, "systemd")["canary_id"], hosts[0].1, "{shown}");
    assert_eq!(cohort(&shown, "openrc")["canary_id"], hosts[2].1, "{shown}");
    let probes = "SELECT 1 FROM commands WHERE script = 'agent:probe'";
    eventually("a canary is probed", async || {
        let probed =
            fixture.server.query("SELECT 1 FROM agent_updates WHERE probe_command_id IS NOT NULL");
        (!probed.is_empty()).then_some(())
    })
    .await;
    fixture.server.kill_9();
    fixture.server.resume();
    let all = |shown: &Value| shown["up_to_date_count"] == 3 && shown["updating_count"] == 0;
    let shown = group(&fixture, &id, "all are up to date", all).await;
    for manager in ["systemd", "openrc"] {
        assert_eq!(cohort(&shown, manager)["state"], "proven", "{shown}");
        assert_eq!(cohort(&shown, manager)["note"], Value::Null, "{shown}");
    }
    for (_, agent) in &hosts {
        runs(&fixture, agent, "0.2.0").await;
    }
    assert_eq!(fixture.server.query(probes).len(), 2, "one execution for each cohort");
    let early = fixture.server.query(
        "SELECT 1 FROM commands AS one JOIN commands AS other ON other.command = 'update'
         JOIN agent_updates AS own ON own.command_id = other.id AND NOT own.is_canary
         WHERE one.script = 'agent:probe' AND one.finished_at > other.created_at
         AND one.agent_id IN (SELECT agent_id FROM agent_updates WHERE is_canary AND cohort = own.cohort)",
    );
    assert!(early.is_empty(), "the second host was asked before its canary had succeeded");
}

async fn cohort_whose_canary_runs_no_execution_is_held_while_another_goes_on(fixture: Fixture) {
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let mut hosts = Vec::new();
    for (name, manager) in
        [("one", "systemd"), ("two", "systemd"), ("three", "openrc"), ("four", "openrc")]
    {
        let (mut options, _) = options(&publisher, name, "0.1.0");
        options = options.with("MUSTER_SERVICE_MANAGER", manager);
        if name == "one" {
            // It registers with the new version as every other, and starts no program.
            options = options.with("MUSTER_FAULT", "failing_starts");
        }
        hosts.push(fixture.agent(options).await);
    }
    let create = ["groups", "create", "all", "--on", "all", "--version", "0.2.0"];
    let create = [&create[..], &["--wave", "4", "--max-failures", "1", "--json"]].concat();
    let made = publisher.cli.run(&create).await.json();
    let id = made.id().to_owned();
    let is_settled = |shown: &Value| {
        shown["failed_count"] == 1 && shown["up_to_date_count"] == 3 && shown["updating_count"] == 0
    };
    let shown = group(&fixture, &id, "the other cohort is up to date", is_settled).await;
    assert_eq!(shown["state"], "active", "{shown}");
    assert_eq!(cohort(&shown, "openrc")["state"], "proven", "{shown}");
    let held = cohort(&shown, "systemd");
    let expected = (&json!("failed"), &json!(hosts[0].1));
    assert_eq!((&held["state"], &held["canary_id"]), expected, "{shown}");
    let note = held.text("note");
    for part in ["did not run a no-op execution", "could not be started", "Pause and resume"] {
        assert!(note.contains(part), "{part}: {note}");
    }
    assert_eq!(shown["problems"][0]["code"], "probe_failed", "{shown}");
    for (host, version) in hosts.iter().zip(["0.2.0", "0.1.0", "0.2.0", "0.2.0"]) {
        runs(&fixture, &host.1, version).await;
    }
    let updates = "SELECT 1 FROM commands WHERE command = 'update'";
    assert_eq!(fixture.server.query(updates).len(), 3, "the second host was not asked");
    let printed = publisher.cli.run(&["groups", "show", "all"]).await.expect(0);
    for part in ["COHORT", "systemd  failed  2", &format!("systemd: {note}")] {
        assert!(printed.contains(part), "{part}: {printed}");
    }

    // People can't request it, and a failed one is not retried as other executions are.
    let body = json!({"command": "execute", "data": {"script": "agent:probe"}});
    let path = format!("/api/agents/{}/command", hosts[0].1);
    fixture.api.post(&path, body).await.expect_problem(422, "invalid_field");
    let probe = fixture.api.get("/api/executions?state=failed").await;
    let probe = probe.expect(200).list("items")[0].clone();
    assert_eq!((&probe["trigger"], &probe["agent_id"]), (&json!("group"), &json!(hosts[0].1)));
    let path = format!("/api/commands/{}/retry", probe.id());
    fixture.api.post(&path, json!({})).await.expect_problem(422, "invalid_field");

    // The host is repaired. Its version is there already, so only the execution is repeated.
    let (one, one_id) = &mut hosts[0];
    one.stop();
    one.set("MUSTER_FAULT", None);
    one.resume();
    runs(&fixture, one_id, "0.2.0").await;
    for action in ["pause", "resume"] {
        let path = format!("/api/groups/{id}/{action}");
        fixture.api.post(&path, json!({})).await.expect(200);
    }
    let all = |shown: &Value| shown["up_to_date_count"] == 4 && shown["updating_count"] == 0;
    let shown = group(&fixture, &id, "all are up to date", all).await;
    let held = cohort(&shown, "systemd");
    let expected = (&json!("proven"), &json!(hosts[0].1));
    assert_eq!((&held["state"], &held["canary_id"]), expected, "{shown}");
    let probes = "SELECT 1 FROM commands WHERE script = 'agent:probe'";
    assert_eq!(fixture.server.query(probes).len(), 3, "two of the first host, and one");
    assert_eq!(fixture.server.query(updates).len(), 4, "one of each host");
}
