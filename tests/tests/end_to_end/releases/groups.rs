//! Groups that go up and down in waves, and halt where a release is bad.

use muster_protocol::release::Program;
use muster_tests::{Agent, Publisher, Script, World, eventually_shown, on_both_databases};
use reqwest::Method;
use serde_json::{Value, json};

use super::{host, runs};

on_both_databases!(
    a_group_goes_up_and_down_wave_by_wave_while_jobs_run,
    a_bad_release_halts_after_its_first_wave_and_the_hosts_stay_on_duty,
    a_server_that_is_killed_between_waves_goes_on_and_who_comes_late_is_asked_then,
    an_agent_belongs_to_the_oldest_group_that_means_it,
);

/// Hosts of one version, and what the group with all of them is called.
async fn fleet(world: &World, publisher: &Publisher, names: &[&str]) -> Vec<(Agent, String)> {
    let mut hosts = Vec::new();
    for name in names {
        let (agent, id, _) = host(world, publisher, name, "0.1.0").await;
        hosts.push((agent, id));
    }
    hosts
}

pub(super) async fn group(
    world: &World,
    id: &str,
    what: &str,
    is_it: impl Fn(&Value) -> bool,
) -> Value {
    let path = format!("/api/groups/{id}");
    eventually_shown(what, async || {
        // The server may be on its way back.
        let answer = world.api.try_send(Method::GET, &path, &[], None).await;
        let shown = answer.map_err(|_| Value::Null)?.expect(200);
        if is_it(&shown) { Ok(shown) } else { Err(shown) }
    })
    .await
}

async fn a_group_goes_up_and_down_wave_by_wave_while_jobs_run(world: World) {
    let publisher = Publisher::new(&world).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let hosts = fleet(&world, &publisher, &["one", "two", "three"]).await;
    let mut jobs = Vec::new();
    for (_, id) in &hosts {
        let run = world.api.execute(id, "long", json!({})).await;
        world.api.output_reaches(&run, 1).await;
        jobs.push(run);
    }
    let create =
        ["groups", "create", "all", "--on", "all", "--version", "0.2.0", "--wave", "2", "--json"];
    let made = publisher.cli.run(&create).await.json();
    let id = made["id"].as_str().expect("an id");
    let there = |shown: &Value| shown["up_to_date_count"] == 3;
    let shown = group(&world, id, "all agents are there", there).await;
    for (_, agent) in &hosts {
        runs(&world, agent, "0.2.0").await;
    }
    assert_eq!(shown["wave"], 2, "{shown}");
    publisher.cli.run(&["groups", "set", "all", "--version", "0.1.0"]).await.expect(0);
    group(&world, id, "all agents are back", there).await;
    for (_, agent) in &hosts {
        runs(&world, agent, "0.1.0").await;
    }
    for run in jobs {
        assert_eq!(world.api.finished(&run).await["state"], "succeeded");
        assert!(world.api.output(&run).await == Script::counted(4_000), "the output differs");
    }
}

async fn a_bad_release_halts_after_its_first_wave_and_the_hosts_stay_on_duty(world: World) {
    let publisher = Publisher::new(&world).await;
    publisher.release("0.1.0").await;
    publisher.replace("0.2.0", Program::Agent, "[ \"$1\" = version ]");
    publisher.release("0.2.0").await;
    let hosts = fleet(&world, &publisher, &["one", "two"]).await;
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
    let made = world.api.post("/api/groups", body).await.expect(201);
    let id = made["id"].as_str().expect("an id");
    let halted = |shown: &Value| shown["state"] == "halted";
    let shown = group(&world, id, "the group halts", halted).await;
    assert_eq!((&shown["failed_count"], &shown["wave"]), (&json!(1), &json!(1)), "{shown}");
    assert_eq!(shown["problems"][0]["code"], "crashed", "{shown}");
    assert_eq!(shown["problems"][0]["agent_id"], hosts[0].1, "{shown}");
    for (_, agent) in &hosts {
        runs(&world, agent, "0.1.0").await;
    }
    // The wish is taken back: nothing more happens, and nobody is left in trouble.
    let back = json!({"desired_version": "0.1.0"});
    let path = format!("/api/groups/{id}");
    let shown = world.api.patch(&path, back).await.expect(200);
    assert_eq!((&shown["state"], &shown["failed_count"]), (&json!("active"), &json!(0)));
    assert_eq!(shown["up_to_date_count"], 2, "{shown}");
}

async fn a_server_that_is_killed_between_waves_goes_on_and_who_comes_late_is_asked_then(
    mut world: World,
) {
    let publisher = Publisher::new(&world).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let mut hosts = fleet(&world, &publisher, &["one", "two", "late"]).await;
    let (mut late, late_id) = hosts.pop().expect("three");
    late.stop();
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
    let made = world.api.post("/api/groups", body).await.expect(201);
    let id = made["id"].as_str().expect("an id").to_owned();
    group(&world, &id, "the first wave has begun", |shown| shown["wave"] == 1).await;
    world.server.kill_9();
    world.server.resume();
    group(&world, &id, "all that are online are there", |shown| shown["up_to_date_count"] == 2)
        .await;
    late.resume();
    let shown = group(&world, &id, "all are there", |shown| shown["up_to_date_count"] == 3).await;
    assert_eq!(shown["failed_count"], 0, "{shown}");
    for agent in hosts.iter().map(|(_, agent)| agent).chain([&late_id]) {
        runs(&world, agent, "0.2.0").await;
    }
}

async fn an_agent_belongs_to_the_oldest_group_that_means_it(world: World) {
    let publisher = Publisher::new(&world).await;
    publisher.release("0.1.0").await;
    let hosts = fleet(&world, &publisher, &["one"]).await;
    let body = |name: &str| json!({"name": name, "target": {"expression": "all"}});
    let first = world.api.post("/api/groups", body("first")).await.expect(201);
    assert_eq!((&first["agent_count"], &first["state"]), (&json!(1), &json!("active")), "{first}");
    let second = world.api.post("/api/groups", body("second")).await.expect(201);
    assert_eq!(
        (&second["agent_count"], &second["claimed_by_other_group"]),
        (&json!(0), &json!([hosts[0].1]))
    );
    world.api.post("/api/groups", body("first")).await.expect_problem(409, "group_exists");
    let unpublished = json!({"desired_version": "9.9.9"});
    let path = format!("/api/groups/{}", first["id"].as_str().expect("an id"));
    world.api.patch(&path, unpublished).await.expect_problem(409, "no_release");
    world.api.patch(&path, json!({"wave_size": "0%"})).await.expect_problem(422, "invalid_field");
    for cli in [["groups", "pause", "first"], ["groups", "resume", "first"]] {
        publisher.cli.run(&cli).await.expect(0);
    }
    publisher.cli.run(&["groups", "delete", "first"]).await.expect(0);
    world.api.get(&path).await.expect_problem(404, "not_found");
}
