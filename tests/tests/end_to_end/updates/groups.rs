//! Groups that go up and down in waves, and halt where a release is bad.

use muster_protocol::release::Program;
use muster_tests::{Agent, Publisher, Script, World, eventually_shown};
use serde_json::{Value, json};

use super::{host, runs};

/// Hosts of one version, and what the group with all of them is called.
async fn fleet(world: &World, publisher: &Publisher, names: &[&str]) -> Vec<(Agent, String)> {
    let mut hosts = Vec::new();
    for name in names {
        let (agent, id, _) = host(world, publisher, name, "0.1.0").await;
        hosts.push((agent, id));
    }
    hosts
}

async fn group(world: &World, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/api/groups/{id}");
    eventually_shown(what, async || {
        let shown = world.api.get(&path).await.expect(200);
        if is_it(&shown) { Ok(shown) } else { Err(shown) }
    })
    .await
}

#[tokio::test]
async fn a_group_goes_up_and_down_wave_by_wave_while_jobs_run() {
    let world = World::on_sqlite().await;
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
    let there = |shown: &Value| shown["there_count"] == 3;
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

#[tokio::test]
async fn a_bad_release_halts_after_its_first_wave_and_the_hosts_stay_on_duty() {
    let world = World::on_sqlite().await;
    let publisher = Publisher::new(&world).await;
    publisher.release("0.1.0").await;
    publisher.replace("0.2.0", Program::Agent, "[ \"$1\" = version ]");
    publisher.release("0.2.0").await;
    let hosts = fleet(&world, &publisher, &["one", "two"]).await;
    let body = json!({"name": "all", "target": {"expression": "all"}, "wanted_version": "0.2.0"});
    let made = world.api.post("/api/groups", body).await.expect(201);
    let id = made["id"].as_str().expect("an id");
    let halted = |shown: &Value| shown["state"] == "halted";
    let shown = group(&world, id, "the group halts", halted).await;
    assert_eq!((&shown["failed_count"], &shown["wave"]), (&json!(1), &json!(1)), "{shown}");
    assert_eq!(shown["troubles"][0]["code"], "crashed", "{shown}");
    assert_eq!(shown["troubles"][0]["agent_id"], hosts[0].1, "{shown}");
    for (_, agent) in &hosts {
        runs(&world, agent, "0.1.0").await;
    }
    // The wish is taken back: nothing more happens, and nobody is left in trouble.
    let back = json!({"wanted_version": "0.1.0"});
    let path = format!("/api/groups/{id}");
    let shown = world.api.patch(&path, back).await.expect(200);
    assert_eq!((&shown["state"], &shown["failed_count"]), (&json!("active"), &json!(0)));
    assert_eq!(shown["there_count"], 2, "{shown}");
}
