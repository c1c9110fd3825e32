//! One request, many agents.

use muster_tests::{
    ALL, Agent, AgentOptions, Cli, FakeAgent, Fixture, JsonFields as _, Script, eventually,
    on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    job_runs_on_every_matching_agent_and_waits_for_offline_ones,
    cancelling_a_job_cancels_it_on_every_agent,
    retry_runs_only_what_did_not_succeed,
);

/// An agent with these scripts, and its id.
async fn agent(fixture: &Fixture, name: &str, scripts: Vec<Script>) -> (Agent, String) {
    let options = AgentOptions { scripts, ..AgentOptions::named(name) };
    let (agent, id) = fixture.agent(options).await;
    let tagged = json!({"name": name, "tags": ["web"]});
    fixture.api.patch(&format!("/api/agents/{id}"), tagged).await.expect(200);
    (agent, id)
}

async fn submit(fixture: &Fixture, script: &str, target: Value) -> String {
    let body = json!({"script": script, "target": target});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    job.id().to_owned()
}

/// The job after its end.
async fn over(fixture: &Fixture, job: &str) -> Value {
    eventually("the job is over", async || {
        let job = fixture.api.get(&format!("/api/jobs/{job}")).await.expect(200);
        (job["state"] != "running").then_some(job)
    })
    .await
}

async fn executions(fixture: &Fixture, job: &str) -> Vec<Value> {
    let page = fixture.api.get(&format!("/api/jobs/{job}/executions")).await.expect(200);
    page.list("items").clone()
}

async fn job_runs_on_every_matching_agent_and_waits_for_offline_ones(fixture: Fixture) {
    let hello = || vec![Script::new("hello", "echo \"hello $NAME\"").taking(["NAME"])];
    let (_one, one) = agent(&fixture, "one", hello()).await;
    let (mut two_runs, two) = agent(&fixture, "two", hello()).await;
    let (_other, other) = fixture.agent(AgentOptions::named("other")).await;
    two_runs.stop();
    eventually("it is away", async || {
        let shown = fixture.api.get(&format!("/api/agents/{two}")).await.expect(200);
        (shown["status"] == "offline").then_some(())
    })
    .await;
    let body =
        json!({"script": "hello", "parameters": {"NAME": "fleet"}, "target": {"tags": ["web"]}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    assert_eq!((&job["agent_count"], &job["state"]), (&json!(2), &json!("running")));
    let id = job.id();
    eventually("one has run it, the other has it queued", async || {
        let job = fixture.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        (job["counts"] == json!({"succeeded": 1, "queued": 1})).then_some(())
    })
    .await;
    two_runs.resume();
    let job = over(&fixture, id).await;
    assert_eq!((&job["state"], &job["counts"]), (&json!("succeeded"), &json!({"succeeded": 2})));
    assert!(job["finished_at"].is_string(), "{job}");
    let executions = executions(&fixture, id).await;
    let mut agents: Vec<_> = executions.iter().map(|run| run["agent_id"].clone()).collect();
    agents.sort_by_key(ToString::to_string);
    let mut meant = vec![json!(one), json!(two)];
    meant.sort_by_key(ToString::to_string);
    assert_eq!(agents, meant, "not {other}");
    for run in &executions {
        let run = run.id();
        assert_eq!(fixture.api.output(run).await, b"hello fleet\n");
    }
}

async fn cancelling_a_job_cancels_it_on_every_agent(fixture: Fixture) {
    let long = || vec![Script::new("long", "echo begun; while :; do sleep 1; done")];
    let (_one, one) = agent(&fixture, "one", long()).await;
    let (mut two_runs, _two) = agent(&fixture, "two", long()).await;
    two_runs.stop();
    let id = submit(&fixture, "long", json!({"expression": "tag:web"})).await;
    eventually("one is at it", async || {
        let job = fixture.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        (job["counts"]["running"] == 1).then_some(())
    })
    .await;
    let refused = fixture.api.post(&format!("/api/jobs/{id}/retry"), json!({})).await;
    refused.expect_problem(409, "job_running");
    for _ in 0..2 {
        fixture.api.post(&format!("/api/jobs/{id}/cancel"), json!({})).await.expect(202);
    }
    let job = over(&fixture, &id).await;
    assert_eq!((&job["state"], &job["counts"]), (&json!("cancelled"), &json!({"cancelled": 2})));
    let alive = fixture.ask(&one, "ping", json!({})).await;
    assert_eq!(alive["success"], true, "{alive}");
}

async fn retry_runs_only_what_did_not_succeed(fixture: Fixture) {
    let (_good, _) = agent(&fixture, "good", vec![Script::new("try", "exit 0")]).await;
    let (_bad, bad) = agent(&fixture, "bad", vec![Script::new("try", "exit 3")]).await;
    let id = submit(&fixture, "try", json!({"tags": ["web"]})).await;
    let job = over(&fixture, &id).await;
    assert_eq!(job["counts"], json!({"succeeded": 1, "failed": 1}));
    let again = fixture.api.post(&format!("/api/jobs/{id}/retry"), json!({})).await.expect(202);
    assert_eq!(again["target"], json!({"ids": [bad]}));
    let all = json!({"executions": "all"});
    let all = fixture.api.post(&format!("/api/jobs/{id}/retry"), all).await.expect(202);
    assert_eq!(all["agent_count"], 2);
    let listed = fixture.api.get("/api/jobs").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
    for job in [again, all] {
        over(&fixture, job.id()).await;
    }
}

#[tokio::test]
async fn job_of_a_killed_server_is_finished_after_its_restart() {
    let mut fixture = Fixture::on_sqlite().await;
    let script = Script::new("wait", "until test -e \"$GO\"; do sleep 0.1; done").taking(["GO"]);
    let (_one, one) = agent(&fixture, "one", vec![script]).await;
    let go = fixture.test_dir.path().join("go");
    let body = json!({"script": "wait", "parameters": {"GO": go}, "target": {"ids": [one]}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    let id = job.id().to_owned();
    assert_eq!((&job["state"], &job["finished_at"]), (&json!("running"), &Value::Null));
    eventually("it runs", async || {
        let job = fixture.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        (job["counts"] == json!({"running": 1})).then_some(())
    })
    .await;
    fixture.server.kill_9();
    std::fs::write(&go, "").expect("let it end");
    fixture.server.resume();
    fixture.server.ready().await;
    let job = over(&fixture, &id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert!(job["finished_at"].is_string(), "{job}");
    let listed = fixture.api.get("/api/jobs").await.expect(200);
    assert_eq!(listed["items"][0]["finished_at"], job["finished_at"]);
}

#[tokio::test]
async fn secrets_of_a_job_reach_only_its_agents() {
    let fixture = Fixture::on_sqlite().await;
    let scripts = || {
        vec![
            Script::new("login", "echo \"$TOKEN\" $USER_NAME; test -n \"$TOKEN\"")
                .taking(["TOKEN", "USER_NAME"]),
        ]
    };
    let (_one, one) = agent(&fixture, "one", scripts()).await;
    let (_two, _) = agent(&fixture, "two", scripts()).await;
    let asked = |target: Value| {
        json!({"script": "login", "parameters": {"USER_NAME": "ada"},
               "secret_parameters": {"TOKEN": "hunter2-hunter2"}, "target": target})
    };
    let by_facts = asked(json!({"expression": "os:linux"}));
    let refused = fixture.api.post("/api/jobs", by_facts).await;
    refused.expect_problem(422, "secrets_need_ids_or_tags");
    let job = fixture.api.post("/api/jobs", asked(json!({"tags": ["web"]}))).await.expect(202);
    assert_eq!(job["secret_names"], json!(["TOKEN"]));
    let id = job.id();
    let job = over(&fixture, id).await;
    assert_eq!(job["counts"], json!({"succeeded": 2}), "{job}");
    for run in executions(&fixture, id).await {
        let output = fixture.api.output(run.id()).await;
        assert_eq!(String::from_utf8_lossy(&output), "*** ada\n");
        assert!(!format!("{job}{run}").contains("hunter2"), "{run}");
    }
    let again =
        fixture.api.post(&format!("/api/jobs/{id}/retry"), json!({"executions": "all"})).await;
    again.expect_problem(409, "secrets_gone");
    let stored = std::fs::read(fixture.server.data_dir().join("muster.db")).expect("the database");
    assert!(!stored.windows(7).any(|bytes| bytes == b"hunter2"), "in the clear on {one}");
}

#[tokio::test]
async fn repeated_request_creates_one_job_even_if_the_fleet_changed() {
    let fixture = Fixture::on_sqlite().await;
    let (_one, one) = agent(&fixture, "one", vec![Script::new("hello", "true")]).await;
    let body = json!({"script": "hello", "target": {"tags": ["web"]}});
    let first = fixture.api.post_once("/api/jobs", "once", body.clone()).await.expect(202);
    fixture.api.patch(&format!("/api/agents/{one}"), json!({"tags": []})).await.expect(200);
    let again = fixture.api.post_once("/api/jobs", "once", body).await.expect(202);
    assert_eq!(first["id"], again["id"]);
    let other = json!({"script": "other", "target": {"tags": ["web"]}});
    let refused = fixture.api.post_once("/api/jobs", "once", other).await;
    refused.expect_problem(422, "idempotency_key_reused");
    over(&fixture, first.id()).await;
}

#[tokio::test]
async fn invalid_job_is_refused_and_starts_no_command() {
    let fixture = Fixture::on_sqlite().await;
    let (_one, one) = agent(&fixture, "one", vec![]).await;
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
        let refused = fixture.api.post("/api/jobs", body.clone()).await;
        assert_eq!(refused.status, status, "{body}");
        refused.expect_problem(status, code);
    }
    assert_eq!(fixture.api.get("/api/jobs").await.expect(200)["items"], json!([]));
    assert_eq!(fixture.api.get("/api/commands").await.expect(200)["items"], json!([]));
    fixture.api.get(&format!("/api/jobs/{nobody}")).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn agent_whose_key_forbids_execution_is_skipped_with_a_reason() {
    let fixture = Fixture::on_sqlite().await;
    let (_one, one) = agent(&fixture, "one", vec![Script::new("hello", "true")]).await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ["ping"]})).await;
    let _two =
        Agent::start(&fixture.test_dir, &fixture.server.url(), &key, AgentOptions::named("two"));
    let two = fixture.online(&key_id).await.id().to_owned();
    let id = submit(&fixture, "hello", json!({"ids": [one, two]})).await;
    let job = over(&fixture, &id).await;
    assert_eq!(job["counts"], json!({"succeeded": 1, "rejected": 1}));
    let executions = executions(&fixture, &id).await;
    let rejected = executions.iter().find(|run| run["agent_id"] == two).expect("there");
    assert_eq!(rejected["error_code"], "permission_revoked", "{rejected}");
}

#[tokio::test]
async fn command_line_manages_jobs() {
    let fixture = Fixture::on_sqlite().await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let (_bad, _) = agent(&fixture, "bad", vec![Script::new("try", "exit 3")]).await;
    let id = submit(&fixture, "try", json!({"tags": ["web"]})).await;
    over(&fixture, &id).await;
    assert!(cli.run(&["jobs"]).await.expect(0).contains("try"));
    assert_eq!(cli.run(&["jobs", "show", &id, "--json"]).await.json()["state"], "failed");
    let executions = cli.run(&["jobs", "executions", &id, "--state", "failed"]).await.expect(0);
    assert!(executions.contains("failed"), "{executions}");
    let again = cli.run(&["jobs", "retry", &id, "--json"]).await.json();
    let again = again.id();
    cli.run(&["jobs", "cancel", again]).await.expect(0);
    over(&fixture, again).await;
}

#[tokio::test]
async fn run_on_many_agents_prints_the_results_and_exits_accordingly() {
    let fixture = Fixture::on_sqlite().await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let (_good, _) =
        agent(&fixture, "good", vec![Script::new("try", "test \"$N\" != 3").taking(["N"])]).await;
    let (_bad, _) =
        agent(&fixture, "bad", vec![Script::new("try", "exit \"$N\"").taking(["N"])]).await;
    let said = cli.run(&["run", "--tag", "web", "try", "N=0"]).await;
    assert_eq!(said.expect(0).trim(), "2 succeeded");
    let said = cli.run(&["run", "--on", "tag:web & name:*", "try", "N=5"]).await;
    assert_eq!(said.expect(1).trim(), "1 failed, 1 succeeded");
    assert!(said.stderr.contains("bad: failed"), "{}", said.stderr);
    let refused = cli.run(&["run", "--on", "tag:nobody", "try"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("no agent matches the target"), "{}", refused.stderr);
    let detached = cli.run(&["run", "--on", "all", "try", "N=0", "--detach"]).await.expect(0);
    over(&fixture, detached.trim()).await;
}

#[tokio::test]
async fn basic_agents_run_a_job_once() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let mut basic = FakeAgent::registered(&fixture.server.address(), &key, "basic").await;
    let agent = fixture.online(&key_id).await.id().to_owned();
    let id = submit(&fixture, "hello", json!({"ids": [agent]})).await;
    let command = basic.expect("command").await;
    assert_eq!(command["data"]["script"], "hello", "{command}");
    let answer = json!({"type": "response", "command_id": command["command_id"], "success": true,
        "data": {"exit_code": 0}});
    basic.send(answer).await;
    assert_eq!(over(&fixture, &id).await["state"], "succeeded");
}
