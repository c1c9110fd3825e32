//! One request, many agents.

use muster_tests::{
    ALL, Agent, AgentOptions, Cli, FakeAgent, Script, World, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    a_job_runs_on_every_agent_that_is_meant_and_waits_for_those_that_are_away,
    a_job_is_cancelled_on_every_agent_at_once,
    only_what_did_not_succeed_is_done_once_more,
);

/// An agent with these scripts, and its id.
async fn agent(world: &World, name: &str, scripts: Vec<Script>) -> (Agent, String) {
    let options = AgentOptions { scripts, ..AgentOptions::named(name) };
    let (agent, id) = world.agent(options).await;
    let tagged = json!({"name": name, "tags": ["web"]});
    world.api.patch(&format!("/api/agents/{id}"), tagged).await.expect(200);
    (agent, id)
}

async fn submit(world: &World, script: &str, target: Value) -> String {
    let body = json!({"script": script, "target": target});
    let job = world.api.post("/api/jobs", body).await.expect(202);
    job["id"].as_str().expect("an id").to_owned()
}

/// The job, once it is over.
async fn over(world: &World, job: &str) -> Value {
    eventually("the job is over", async || {
        let job = world.api.get(&format!("/api/jobs/{job}")).await.expect(200);
        (job["state"] != "running").then_some(job)
    })
    .await
}

async fn executions(world: &World, job: &str) -> Vec<Value> {
    let page = world.api.get(&format!("/api/jobs/{job}/executions")).await.expect(200);
    page["items"].as_array().expect("a list").clone()
}

async fn a_job_runs_on_every_agent_that_is_meant_and_waits_for_those_that_are_away(world: World) {
    let hello = || vec![Script::new("hello", "echo \"hello $NAME\"").taking(["NAME"])];
    let (_one, one) = agent(&world, "one", hello()).await;
    let (mut two_runs, two) = agent(&world, "two", hello()).await;
    let (_other, other) = world.agent(AgentOptions::named("other")).await;
    two_runs.stop();
    eventually("it is away", async || {
        let shown = world.api.get(&format!("/api/agents/{two}")).await.expect(200);
        (shown["status"] == "offline").then_some(())
    })
    .await;
    let body =
        json!({"script": "hello", "parameters": {"NAME": "fleet"}, "target": {"tags": ["web"]}});
    let job = world.api.post("/api/jobs", body).await.expect(202);
    assert_eq!((&job["agent_count"], &job["state"]), (&json!(2), &json!("running")));
    let id = job["id"].as_str().expect("an id");
    eventually("one has run it, the other has it queued", async || {
        let job = world.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        (job["counts"] == json!({"succeeded": 1, "queued": 1})).then_some(())
    })
    .await;
    two_runs.resume();
    let job = over(&world, id).await;
    assert_eq!((&job["state"], &job["counts"]), (&json!("succeeded"), &json!({"succeeded": 2})));
    assert!(job["finished_at"].is_string(), "{job}");
    let executions = executions(&world, id).await;
    let mut agents: Vec<_> = executions.iter().map(|run| run["agent_id"].clone()).collect();
    agents.sort_by_key(ToString::to_string);
    let mut meant = vec![json!(one), json!(two)];
    meant.sort_by_key(ToString::to_string);
    assert_eq!(agents, meant, "not {other}");
    for run in &executions {
        let run = run["id"].as_str().expect("an id");
        assert_eq!(world.api.output(run).await, b"hello fleet\n");
    }
}

async fn a_job_is_cancelled_on_every_agent_at_once(world: World) {
    let long = || vec![Script::new("long", "echo begun; while :; do sleep 1; done")];
    let (_one, one) = agent(&world, "one", long()).await;
    let (mut two_runs, _two) = agent(&world, "two", long()).await;
    two_runs.stop();
    let id = submit(&world, "long", json!({"expression": "tag:web"})).await;
    eventually("one is at it", async || {
        let job = world.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        (job["counts"]["running"] == 1).then_some(())
    })
    .await;
    let refused = world.api.post(&format!("/api/jobs/{id}/retry"), json!({})).await;
    refused.expect_problem(409, "job_running");
    for _ in 0..2 {
        world.api.post(&format!("/api/jobs/{id}/cancel"), json!({})).await.expect(202);
    }
    let job = over(&world, &id).await;
    assert_eq!((&job["state"], &job["counts"]), (&json!("cancelled"), &json!({"cancelled": 2})));
    let alive = world.ask(&one, "ping", json!({})).await;
    assert_eq!(alive["success"], true, "{alive}");
}

async fn only_what_did_not_succeed_is_done_once_more(world: World) {
    let (_good, _) = agent(&world, "good", vec![Script::new("try", "exit 0")]).await;
    let (_bad, bad) = agent(&world, "bad", vec![Script::new("try", "exit 3")]).await;
    let id = submit(&world, "try", json!({"tags": ["web"]})).await;
    let job = over(&world, &id).await;
    assert_eq!(job["counts"], json!({"succeeded": 1, "failed": 1}));
    let again = world.api.post(&format!("/api/jobs/{id}/retry"), json!({})).await.expect(202);
    assert_eq!(again["target"], json!({"ids": [bad]}));
    let all = json!({"executions": "all"});
    let all = world.api.post(&format!("/api/jobs/{id}/retry"), all).await.expect(202);
    assert_eq!(all["agent_count"], 2);
    let listed = world.api.get("/api/jobs").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
    for job in [again, all] {
        over(&world, job["id"].as_str().expect("an id")).await;
    }
}

#[tokio::test]
async fn a_job_that_the_server_did_not_live_to_finish_is_finished_by_the_next_one() {
    let mut world = World::on_sqlite().await;
    let script = Script::new("wait", "until test -e \"$GO\"; do sleep 0.1; done").taking(["GO"]);
    let (_one, one) = agent(&world, "one", vec![script]).await;
    let go = world.site.path().join("go");
    let body = json!({"script": "wait", "parameters": {"GO": go}, "target": {"ids": [one]}});
    let job = world.api.post("/api/jobs", body).await.expect(202);
    let id = job["id"].as_str().expect("an id").to_owned();
    assert_eq!((&job["state"], &job["finished_at"]), (&json!("running"), &Value::Null));
    eventually("it runs", async || {
        let job = world.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        (job["counts"] == json!({"running": 1})).then_some(())
    })
    .await;
    world.server.kill_9();
    std::fs::write(&go, "").expect("let it end");
    world.server.resume();
    world.server.ready().await;
    let job = over(&world, &id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert!(job["finished_at"].is_string(), "{job}");
    let listed = world.api.get("/api/jobs").await.expect(200);
    assert_eq!(listed["items"][0]["finished_at"], job["finished_at"]);
}

#[tokio::test]
async fn secrets_of_a_job_reach_its_agents_and_nobody_else() {
    let world = World::on_sqlite().await;
    let scripts = || {
        vec![
            Script::new("login", "echo \"$TOKEN\" $USER_NAME; test -n \"$TOKEN\"")
                .taking(["TOKEN", "USER_NAME"]),
        ]
    };
    let (_one, one) = agent(&world, "one", scripts()).await;
    let (_two, _) = agent(&world, "two", scripts()).await;
    let asked = |target: Value| {
        json!({"script": "login", "parameters": {"USER_NAME": "ada"},
               "secret_parameters": {"TOKEN": "hunter2-hunter2"}, "target": target})
    };
    let by_facts = asked(json!({"expression": "os:linux"}));
    let refused = world.api.post("/api/jobs", by_facts).await;
    refused.expect_problem(422, "secrets_need_ids_or_tags");
    let job = world.api.post("/api/jobs", asked(json!({"tags": ["web"]}))).await.expect(202);
    assert_eq!(job["secret_names"], json!(["TOKEN"]));
    let id = job["id"].as_str().expect("an id");
    let job = over(&world, id).await;
    assert_eq!(job["counts"], json!({"succeeded": 2}), "{job}");
    for run in executions(&world, id).await {
        let output = world.api.output(run["id"].as_str().expect("an id")).await;
        assert_eq!(String::from_utf8_lossy(&output), "*** ada\n");
        assert!(!format!("{job}{run}").contains("hunter2"), "{run}");
    }
    let again =
        world.api.post(&format!("/api/jobs/{id}/retry"), json!({"executions": "all"})).await;
    again.expect_problem(409, "secrets_gone");
    let stored = std::fs::read(world.server.data_dir().join("muster.db")).expect("the database");
    assert!(!stored.windows(7).any(|bytes| bytes == b"hunter2"), "in the clear on {one}");
}

#[tokio::test]
async fn a_repeated_request_makes_one_job_whoever_is_there_by_then() {
    let world = World::on_sqlite().await;
    let (_one, one) = agent(&world, "one", vec![Script::new("hello", "true")]).await;
    let body = json!({"script": "hello", "target": {"tags": ["web"]}});
    let first = world.api.post_once("/api/jobs", "once", body.clone()).await.expect(202);
    world.api.patch(&format!("/api/agents/{one}"), json!({"tags": []})).await.expect(200);
    let again = world.api.post_once("/api/jobs", "once", body).await.expect(202);
    assert_eq!(first["id"], again["id"]);
    let other = json!({"script": "other", "target": {"tags": ["web"]}});
    let refused = world.api.post_once("/api/jobs", "once", other).await;
    refused.expect_problem(422, "idempotency_key_reused");
    over(&world, first["id"].as_str().expect("an id")).await;
}

#[tokio::test]
async fn a_job_that_makes_no_sense_is_refused_and_starts_nothing() {
    let world = World::on_sqlite().await;
    let (_one, one) = agent(&world, "one", vec![]).await;
    let nobody = "01980000-0000-7000-8000-000000000000";
    for (body, status, code) in [
        (json!({"target": {"ids": [one]}}), 422, "invalid_field"),
        (json!({"script": "a b", "target": {"ids": [one]}}), 422, "invalid_field"),
        (json!({"script": "x", "target": {}}), 422, "invalid_target"),
        (json!({"script": "x", "target": {"tags": ["none"]}}), 422, "no_agents"),
        (json!({"script": "x", "target": {"ids": [nobody]}}), 422, "unknown_agent"),
        (json!({"script": "x", "target": {"expression": "tag:web &"}}), 422, "invalid_target"),
        (
            json!({"script": "x", "parameters": {"PATH": "y"}, "target": {"ids": [one]}}),
            422,
            "invalid_parameters",
        ),
        (json!({"script": "x", "wave": 3, "target": {"ids": [one]}}), 422, "invalid_body"),
    ] {
        let refused = world.api.post("/api/jobs", body.clone()).await;
        assert_eq!(refused.status, status, "{body}");
        refused.expect_problem(status, code);
    }
    assert_eq!(world.api.get("/api/jobs").await.expect(200)["items"], json!([]));
    assert_eq!(world.api.get("/api/commands").await.expect(200)["items"], json!([]));
    world.api.get(&format!("/api/jobs/{nobody}")).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn an_agent_whose_key_allows_no_runs_is_left_out_and_says_why() {
    let world = World::on_sqlite().await;
    let (_one, one) = agent(&world, "one", vec![Script::new("hello", "true")]).await;
    let (key_id, key) = world.api.agent_key(json!({"permissions": ["ping"]})).await;
    let _two = Agent::start(&world.site, &world.server.url(), &key, AgentOptions::named("two"));
    let two = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    let id = submit(&world, "hello", json!({"ids": [one, two]})).await;
    let job = over(&world, &id).await;
    assert_eq!(job["counts"], json!({"succeeded": 1, "rejected": 1}));
    let executions = executions(&world, &id).await;
    let rejected = executions.iter().find(|run| run["agent_id"] == two).expect("there");
    assert_eq!(rejected["error_code"], "permission_revoked", "{rejected}");
}

#[tokio::test]
async fn jobs_can_be_looked_after_from_the_command_line() {
    let world = World::on_sqlite().await;
    let cli = Cli::new(&world.site);
    let login = ["login", "--server", &world.server.url()];
    cli.run_with_input(&login, world.api.key()).await.expect(0);
    let (_bad, _) = agent(&world, "bad", vec![Script::new("try", "exit 3")]).await;
    let id = submit(&world, "try", json!({"tags": ["web"]})).await;
    over(&world, &id).await;
    assert!(cli.run(&["jobs"]).await.expect(0).contains("try"));
    assert_eq!(cli.run(&["jobs", "show", &id, "--json"]).await.json()["state"], "failed");
    let executions = cli.run(&["jobs", "executions", &id, "--state", "failed"]).await.expect(0);
    assert!(executions.contains("failed"), "{executions}");
    let again = cli.run(&["jobs", "retry", &id, "--json"]).await.json();
    let again = again["id"].as_str().expect("an id");
    cli.run(&["jobs", "cancel", again]).await.expect(0);
    over(&world, again).await;
}

#[tokio::test]
async fn a_run_on_many_agents_says_what_came_of_it_and_exits_accordingly() {
    let world = World::on_sqlite().await;
    let cli = Cli::new(&world.site);
    let login = ["login", "--server", &world.server.url()];
    cli.run_with_input(&login, world.api.key()).await.expect(0);
    let (_good, _) =
        agent(&world, "good", vec![Script::new("try", "test \"$N\" != 3").taking(["N"])]).await;
    let (_bad, _) =
        agent(&world, "bad", vec![Script::new("try", "exit \"$N\"").taking(["N"])]).await;
    let said = cli.run(&["run", "--tag", "web", "try", "N=0"]).await;
    assert_eq!(said.expect(0).trim(), "2 succeeded");
    let said = cli.run(&["run", "--on", "tag:web & name:*", "try", "N=5"]).await;
    assert_eq!(said.expect(1).trim(), "1 failed, 1 succeeded");
    assert!(said.stderr.contains("bad: failed"), "{}", said.stderr);
    let refused = cli.run(&["run", "--on", "tag:nobody", "try"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("the target matches no agents"), "{}", refused.stderr);
    let detached = cli.run(&["run", "--on", "all", "try", "N=0", "--detach"]).await.expect(0);
    over(&world, detached.trim()).await;
}

#[tokio::test]
async fn basic_agents_take_part_once() {
    let world = World::on_sqlite().await;
    let (key_id, key) = world.api.agent_key(json!({"permissions": ALL})).await;
    let mut basic = FakeAgent::registered(&world.server.address(), &key, "basic").await;
    let agent = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    let id = submit(&world, "hello", json!({"ids": [agent]})).await;
    let command = basic.expect("command").await;
    assert_eq!(command["data"]["script"], "hello", "{command}");
    let answer = json!({"type": "response", "command_id": command["command_id"], "success": true,
        "data": {"exit_code": 0}});
    basic.send(answer).await;
    assert_eq!(over(&world, &id).await["state"], "succeeded");
}
