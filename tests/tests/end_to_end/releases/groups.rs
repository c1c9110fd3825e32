//! Groups that upgrade and downgrade in waves, and halt at a bad release.

use muster_protocol::release::Program;
use muster_tests::{
    Agent, Fixture, JsonFields as _, Publisher, Script, eventually_shown, on_both_databases,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{host, runs};

on_both_databases!(
    group_is_upgraded_and_downgraded_wave_by_wave_while_jobs_run,
    bad_release_halts_after_its_first_wave_and_hosts_keep_working,
    server_killed_between_waves_continues_and_updates_late_agents,
    agent_belongs_to_the_oldest_matching_group,
);

/// Hosts with one version, and the name of the group of all of them.
async fn fleet(fixture: &Fixture, publisher: &Publisher, names: &[&str]) -> Vec<(Agent, String)> {
    let mut hosts = Vec::new();
    for name in names {
        let (agent, id, _) = host(fixture, publisher, name, "0.1.0").await;
        hosts.push((agent, id));
    }
    hosts
}

pub(super) async fn group(
    fixture: &Fixture,
    id: &str,
    what: &str,
    is_it: impl Fn(&Value) -> bool,
) -> Value {
    let path = format!("/api/groups/{id}");
    eventually_shown(what, async || {
        // The server may be restarting.
        let answer = fixture.api.try_send(Method::GET, &path, &[], None).await;
        let shown = answer.map_err(|_| Value::Null)?.expect(200);
        if is_it(&shown) { Ok(shown) } else { Err(shown) }
    })
    .await
}

async fn group_is_upgraded_and_downgraded_wave_by_wave_while_jobs_run(fixture: Fixture) {
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let hosts = fleet(&fixture, &publisher, &["one", "two", "three"]).await;
    let mut jobs = Vec::new();
    for (_, id) in &hosts {
        let run = fixture.api.execute(id, "long", json!({})).await;
        fixture.api.output_reaches(&run, 1).await;
        jobs.push(run);
    }
    let create =
        ["groups", "create", "all", "--on", "all", "--version", "0.2.0", "--wave", "2", "--json"];
    let made = publisher.cli.run(&create).await.json();
    let id = made.id();
    let there = |shown: &Value| shown["up_to_date_count"] == 3;
    let shown = group(&fixture, id, "all agents are there", there).await;
    for (_, agent) in &hosts {
        runs(&fixture, agent, "0.2.0").await;
    }
    assert_eq!(shown["wave"], 2, "{shown}");
    publisher.cli.run(&["groups", "set", "all", "--version", "0.1.0"]).await.expect(0);
    group(&fixture, id, "all agents are back", there).await;
    for (_, agent) in &hosts {
        runs(&fixture, agent, "0.1.0").await;
    }
    for run in jobs {
        assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
        assert!(fixture.api.output(&run).await == Script::counted(4_000), "the output differs");
    }
}

async fn bad_release_halts_after_its_first_wave_and_hosts_keep_working(fixture: Fixture) {
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.replace("0.2.0", Program::Agent, "[ \"$1\" = version ]");
    publisher.release("0.2.0").await;
    let hosts = fleet(&fixture, &publisher, &["one", "two"]).await;
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
    let made = fixture.api.post("/api/groups", body).await.expect(201);
    let id = made.id();
    let halted = |shown: &Value| shown["state"] == "halted";
    let shown = group(&fixture, id, "the group halts", halted).await;
    assert_eq!((&shown["failed_count"], &shown["wave"]), (&json!(1), &json!(1)), "{shown}");
    assert_eq!(shown["problems"][0]["code"], "crashed", "{shown}");
    assert_eq!(shown["problems"][0]["agent_id"], hosts[0].1, "{shown}");
    for (_, agent) in &hosts {
        runs(&fixture, agent, "0.1.0").await;
    }
    // The desired version is changed back: nothing more happens, and no agent has a problem.
    let back = json!({"desired_version": "0.1.0"});
    let path = format!("/api/groups/{id}");
    let shown = fixture.api.patch(&path, back).await.expect(200);
    assert_eq!((&shown["state"], &shown["failed_count"]), (&json!("active"), &json!(0)));
    assert_eq!(shown["up_to_date_count"], 2, "{shown}");
}

async fn server_killed_between_waves_continues_and_updates_late_agents(mut fixture: Fixture) {
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let mut hosts = fleet(&fixture, &publisher, &["one", "two", "late"]).await;
    let (mut late, late_id) = hosts.pop().expect("three");
    late.stop();
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
    let made = fixture.api.post("/api/groups", body).await.expect(201);
    let id = made.id().to_owned();
    group(&fixture, &id, "the first wave has begun", |shown| shown["wave"] == 1).await;
    fixture.server.kill_9();
    fixture.server.resume();
    group(&fixture, &id, "all that are online are there", |shown| shown["up_to_date_count"] == 2)
        .await;
    late.resume();
    let shown = group(&fixture, &id, "all are there", |shown| shown["up_to_date_count"] == 3).await;
    assert_eq!(shown["failed_count"], 0, "{shown}");
    for agent in hosts.iter().map(|(_, agent)| agent).chain([&late_id]) {
        runs(&fixture, agent, "0.2.0").await;
    }
}

async fn agent_belongs_to_the_oldest_matching_group(fixture: Fixture) {
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    let hosts = fleet(&fixture, &publisher, &["one"]).await;
    let body = |name: &str| json!({"name": name, "target": {"expression": "all"}});
    let first = fixture.api.post("/api/groups", body("first")).await.expect(201);
    assert_eq!((&first["agent_count"], &first["state"]), (&json!(1), &json!("active")), "{first}");
    let second = fixture.api.post("/api/groups", body("second")).await.expect(201);
    assert_eq!(
        (&second["agent_count"], &second["claimed_by_other_group"]),
        (&json!(0), &json!([hosts[0].1]))
    );
    fixture.api.post("/api/groups", body("first")).await.expect_problem(409, "group_exists");
    let unpublished = json!({"desired_version": "9.9.9"});
    let path = format!("/api/groups/{}", first.id());
    fixture.api.patch(&path, unpublished).await.expect_problem(409, "no_release");
    fixture.api.patch(&path, json!({"wave_size": "0%"})).await.expect_problem(422, "invalid_field");
    for cli in [["groups", "pause", "first"], ["groups", "resume", "first"]] {
        publisher.cli.run(&cli).await.expect(0);
    }
    publisher.cli.run(&["groups", "delete", "first"]).await.expect(0);
    fixture.api.get(&path).await.expect_problem(404, "not_found");
}
