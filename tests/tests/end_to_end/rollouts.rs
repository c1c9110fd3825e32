//! One request, many agents, wave after wave.

use std::path::Path;

use muster_tests::{
    ALL, Agent, AgentOptions, Cli, FakeAgent, Script, World, eventually_shown, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    waves_follow_each_other_and_carry_secrets,
    failures_beyond_the_budget_halt_it_with_those_in_flight_counted,
    a_pause_holds_across_a_kill_of_the_server_and_no_wave_starts_twice,
    an_abort_ends_what_has_not_begun_and_lets_the_rest_run,
    agents_that_are_offline_go_last_or_are_left_out,
    a_wave_whose_agent_left_shuts_the_gate_until_somebody_resumes,
);

/// Basic agents, in the order in which jobs take them, that answer what a test has them answer.
async fn fakes(world: &World, count: usize) -> Vec<(FakeAgent, String)> {
    let fields = json!({"permissions": ALL, "max_agents": count});
    let (key_id, key) = world.api.agent_key(fields).await;
    let mut agents = Vec::new();
    for index in 0..count {
        let name = format!("fake-{index}");
        let agent = FakeAgent::registered(&world.server.address(), &key, &name).await;
        let known = world.agents_of(&key_id).await;
        let known = known.iter().find(|known| known["hostname"] == name).expect("enrolled");
        agents.push((agent, known["id"].as_str().expect("an id").to_owned()));
    }
    agents
}

fn ids(agents: &[(FakeAgent, String)]) -> Value {
    json!({"ids": agents.iter().map(|(_, id)| id).collect::<Vec<_>>()})
}

/// The agent gets the command of a job, and answers it.
async fn answer(agent: &mut FakeAgent, is_success: bool) {
    let command = agent.expect("command").await;
    reply(agent, &command, is_success).await;
}

async fn reply(agent: &mut FakeAgent, command: &Value, is_success: bool) {
    let id = &command["command_id"];
    agent.send(json!({"type": "response", "command_id": id, "success": is_success})).await;
}

async fn submit(world: &World, target: Value, rollout: Value) -> String {
    let body = json!({"script": "deploy", "target": target, "rollout": rollout});
    let job = world.api.post("/api/jobs", body).await.expect(202);
    job["id"].as_str().expect("an id").to_owned()
}

/// The job, once it is as it should be.
async fn job_that(world: &World, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually_shown(&format!("the job {what}"), async || {
        let path = format!("/api/jobs/{id}");
        let job = world.api.get(&path).await.expect(200);
        if is(&job) { Ok(job) } else { Err(job) }
    })
    .await
}

async fn in_state(world: &World, id: &str, state: &str) -> Value {
    job_that(world, id, &format!("is {state}"), |job| job["state"] == state).await
}

async fn steer(world: &World, id: &str, word: &str) -> Value {
    world.api.post(&format!("/api/jobs/{id}/{word}"), json!({})).await.expect(202)
}

/// Executions in the order of their waves and agents.
async fn executions(world: &World, id: &str) -> Vec<Value> {
    let path = format!("/api/jobs/{id}/executions?limit=100");
    let page = world.api.get(&path).await.expect(200);
    let mut items = page["items"].as_array().cloned().expect("a list");
    items.sort_by_key(|run| (run["wave"].as_i64(), run["id"].to_string()));
    items
}

async fn audited(world: &World, action: &str) -> usize {
    let page = world.api.get("/api/audit?limit=500").await.expect(200);
    let items = page["items"].as_array().expect("a list");
    items.iter().filter(|entry| entry["action"] == action).count()
}

/// Real agents that allow `deploy`.
async fn reals(world: &World, count: usize, script: &str) -> Vec<(Agent, String)> {
    let mut agents = Vec::new();
    for index in 0..count {
        let scripts = vec![Script::new("deploy", script)];
        let options = AgentOptions { scripts, ..AgentOptions::named(&format!("real-{index}")) };
        agents.push(world.agent(options).await);
    }
    agents
}

async fn waves_follow_each_other_and_carry_secrets(world: World) {
    let agents = reals(&world, 3, "echo \"$TOKEN\"; test -n \"$TOKEN\"").await;
    let ids: Vec<_> = agents.iter().map(|(_, id)| id).collect();
    let body = json!({"script": "deploy", "secret_parameters": {"TOKEN": "hunter2-hunter2"},
        "target": {"ids": ids}, "expires_in_ms": 60_000, "rollout": {"wave_size": "34%"}});
    let job = world.api.post("/api/jobs", body).await.expect(202);
    let id = job["id"].as_str().expect("an id");
    assert_eq!(job["rollout"]["wave_count"], 2, "{job}");
    let job = in_state(&world, id, "succeeded").await;
    assert_eq!((&job["rollout"]["wave"], &job["rollout"]["held"]), (&json!(2), &json!(0)));
    let runs = executions(&world, id).await;
    let waves: Vec<_> = runs.iter().map(|run| run["wave"].as_i64()).collect();
    assert_eq!(waves, [Some(1), Some(1), Some(2)]);
    for first in &runs[..2] {
        assert!(
            first["finished_at"].as_str() <= runs[2]["delivered_at"].as_str(),
            "wave 2 began before wave 1 had ended: {runs:?}"
        );
    }
    // Its time to wait began when it was let go.
    assert!(runs[2]["expires_at"].as_str() > runs[0]["expires_at"].as_str());
    for run in &runs {
        let output = world.api.output(run["id"].as_str().expect("an id")).await;
        assert_eq!(String::from_utf8_lossy(&output), "***\n");
    }
}

async fn failures_beyond_the_budget_halt_it_with_those_in_flight_counted(world: World) {
    let mut agents = fakes(&world, 6).await;
    // 17 % of 6 is one failure that is borne: at most two executions are in flight.
    let rollout = json!({"wave_size": 4, "max_failures": "17%"});
    let id = submit(&world, ids(&agents), rollout.clone()).await;
    let job = in_state(&world, &id, "running").await;
    assert_eq!((&job["rollout"]["held"], &job["rollout"]["wave_count"]), (&json!(4), &json!(2)));
    answer(&mut agents[0].0, true).await;
    // One that succeeded makes room for one more.
    job_that(&world, &id, "lets a third go", |job| job["rollout"]["held"] == 3).await;
    answer(&mut agents[1].0, false).await;
    // One that failed does not: the one in flight may fail as well.
    let third = agents[2].0.expect("command").await;
    let job = world.api.get(&format!("/api/jobs/{id}")).await.expect(200);
    assert_eq!((&job["state"], &job["rollout"]["held"]), (&json!("running"), &json!(3)));
    reply(&mut agents[2].0, &third, false).await;
    let job = in_state(&world, &id, "halted").await;
    assert!(
        job["halt_reason"]
            .as_str()
            .is_some_and(|text| text.starts_with("2 executions failed and 1 may")),
        "{job}"
    );
    assert_eq!(job["counts"], json!({"succeeded": 1, "failed": 2, "queued": 3}));
    assert_eq!(job["finished_at"], Value::Null);
    assert_eq!(audited(&world, "job.halt").await, 1);
    let refused = world.api.post(&format!("/api/jobs/{id}/pause"), json!({})).await;
    refused.expect_problem(409, "wrong_state");
    // What failed before counts no more.
    let job = steer(&world, &id, "resume").await;
    assert_eq!((&job["state"], &job["halt_reason"]), (&json!("running"), &Value::Null));
    for (agent, _) in &mut agents[3..] {
        answer(agent, true).await;
    }
    let job = in_state(&world, &id, "failed").await;
    assert_eq!(job["counts"], json!({"succeeded": 4, "failed": 2}));
    let refused = world.api.post(&format!("/api/jobs/{id}/resume"), json!({})).await;
    refused.expect_problem(409, "wrong_state");
}

async fn a_pause_holds_across_a_kill_of_the_server_and_no_wave_starts_twice(mut world: World) {
    let agents =
        reals(&world, 3, "echo x >>\"$DIR/$$\"; until test -e \"$DIR/go\"; do sleep 0.1; done")
            .await;
    let folder = world.site.folder("runs");
    let ids: Vec<_> = agents.iter().map(|(_, id)| id).collect();
    let body = json!({"script": "deploy", "parameters": {"DIR": folder}, "target": {"ids": ids},
        "rollout": {"wave_size": 1}});
    let job = world.api.post("/api/jobs", body).await.expect(202);
    let id = job["id"].as_str().expect("an id").to_owned();
    let runs = |folder: &Path| std::fs::read_dir(folder).expect("read").count();
    job_that(&world, &id, "runs", |job| job["counts"]["running"] == 1).await;
    let job = steer(&world, &id, "pause").await;
    assert_eq!(job["state"], "paused");
    steer(&world, &id, "pause").await;
    assert_eq!(audited(&world, "job.pause").await, 1, "what is so already leaves no trace");
    world.server.kill_9();
    std::fs::write(folder.join("go"), "").expect("let it end");
    world.server.resume();
    world.server.ready().await;
    // What ran goes on to its end, and nothing follows.
    let job = job_that(&world, &id, "has one end", |job| job["counts"]["succeeded"] == 1).await;
    assert_eq!((&job["state"], &job["rollout"]["wave"]), (&json!("paused"), &json!(1)));
    assert_eq!(runs(&folder), 2, "one run, and the file that ends it");
    steer(&world, &id, "resume").await;
    job_that(&world, &id, "is in its last wave or over", |job| job["rollout"]["wave"] != 1).await;
    world.server.kill_9();
    world.server.resume();
    world.server.ready().await;
    let job = in_state(&world, &id, "succeeded").await;
    assert_eq!(job["counts"], json!({"succeeded": 3}));
    assert_eq!(runs(&folder), 4, "each ran once");
}

async fn an_abort_ends_what_has_not_begun_and_lets_the_rest_run(world: World) {
    let mut agents = fakes(&world, 3).await;
    let id = submit(&world, ids(&agents), json!({"wave_size": 1})).await;
    let running = agents[0].0.expect("command").await;
    let job = steer(&world, &id, "abort").await;
    assert_eq!((&job["state"], &job["stop"]), (&json!("running"), &json!("aborted")));
    assert_eq!(job["counts"], json!({"delivered": 1, "cancelled": 2}));
    for word in ["pause", "resume"] {
        let refused = world.api.post(&format!("/api/jobs/{id}/{word}"), json!({})).await;
        refused.expect_problem(409, "wrong_state");
    }
    reply(&mut agents[0].0, &running, true).await;
    let job = in_state(&world, &id, "aborted").await;
    assert_eq!(job["counts"], json!({"succeeded": 1, "cancelled": 2}));
    let runs = executions(&world, &id).await;
    assert_eq!(runs[2]["error_code"], "aborted_in_queue", "{runs:?}");
    steer(&world, &id, "abort").await;
    assert_eq!(audited(&world, "job.abort").await, 1);
    // One that is retried is rolled out as it was.
    let failed = json!({"executions": "failed"});
    let again = world.api.post(&format!("/api/jobs/{id}/retry"), failed).await.expect(202);
    assert_eq!(
        (&again["agent_count"], &again["rollout"]["asked"]),
        (&json!(2), &json!({"wave_size": 1}))
    );
    // And one that is cancelled is cancelled, held ones at once.
    let again = again["id"].as_str().expect("an id");
    agents[1].0.expect("command").await;
    let job = steer(&world, again, "cancel").await;
    assert_eq!(job["counts"], json!({"delivered": 1, "cancelled": 1}));
    assert_eq!(job["stop"], "cancelled");
}

async fn agents_that_are_offline_go_last_or_are_left_out(world: World) {
    let mut agents = fakes(&world, 4).await;
    let target = ids(&agents);
    let away = agents.remove(0);
    drop(away.0);
    let path = format!("/api/agents/{}", away.1);
    eventually_shown("the first is offline", async || {
        let agent = world.api.get(&path).await.expect(200);
        if agent["status"] == "offline" { Ok(()) } else { Err(agent) }
    })
    .await;
    let rollout = |offline| json!({"wave_size": 2, "offline": offline});
    let last = submit(&world, target.clone(), rollout("last_wave")).await;
    let skip = submit(&world, target, rollout("skip")).await;
    let job = in_state(&world, &skip, "running").await;
    assert_eq!((&job["rollout"]["skipped"], &job["rollout"]["wave_count"]), (&json!(1), &json!(2)));
    for (agent, _) in &mut agents {
        for _ in 0..2 {
            answer(agent, true).await;
        }
    }
    let job = in_state(&world, &skip, "succeeded").await;
    assert_eq!(job["counts"], json!({"succeeded": 3, "cancelled": 1}));
    let runs = executions(&world, &skip).await;
    let skipped = runs.iter().find(|run| run["agent_id"] == *away.1).expect("shown");
    assert_eq!(skipped["error_code"], "skipped_offline");
    // The last wave waits for it.
    let waits = |job: &Value| job["rollout"]["wave"] == 3 && job["rollout"]["held"] == 0;
    let job = job_that(&world, &last, "is in its last wave", waits).await;
    assert_eq!(job["counts"], json!({"succeeded": 3, "queued": 1}), "{job}");
    steer(&world, &last, "abort").await;
    in_state(&world, &last, "aborted").await;
    let refused =
        json!({"script": "deploy", "target": {"ids": [away.1]}, "rollout": rollout("skip")});
    world.api.post("/api/jobs", refused).await.expect_problem(422, "no_agents");
}

async fn a_wave_whose_agent_left_shuts_the_gate_until_somebody_resumes(world: World) {
    let mut agents = fakes(&world, 2).await;
    let gate = json!({"online": true, "for_ms": 100, "within_ms": 400});
    let rollout = json!({"wave_size": 1, "health_gate": gate});
    let well = submit(&world, ids(&agents), rollout.clone()).await;
    for (agent, _) in &mut agents {
        answer(agent, true).await;
    }
    in_state(&world, &well, "succeeded").await;
    let id = submit(&world, ids(&agents), rollout).await;
    let (mut first, _) = agents.remove(0);
    answer(&mut first, true).await;
    drop(first);
    let job = in_state(&world, &id, "halted").await;
    let reason = job["halt_reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("1 agents of wave 1 were not online"), "{job}");
    assert_eq!(job["counts"], json!({"succeeded": 1, "queued": 1}));
    steer(&world, &id, "resume").await;
    answer(&mut agents[0].0, true).await;
    in_state(&world, &id, "succeeded").await;
}

#[tokio::test]
async fn a_rollout_that_makes_no_sense_is_refused_with_its_field() {
    let world = World::on_sqlite().await;
    let agents = fakes(&world, 1).await;
    let gate = |fields: Value| json!({"wave_size": 1, "health_gate": fields});
    for (rollout, field) in [
        (json!({"wave_size": 0}), "rollout.wave_size"),
        (json!({"wave_size": "0%"}), "rollout.wave_size"),
        (json!({"wave_size": "101%"}), "rollout.wave_size"),
        (json!({"wave_size": -3}), "rollout.wave_size"),
        (json!({}), "rollout.wave_size"),
        (json!({"wave_size": 1, "max_failures": -1}), "rollout.max_failures"),
        (json!({"wave_size": 1, "pause_ms": -1}), "rollout.pause_ms"),
        (json!({"wave_size": 1, "pause_ms": 86_400_001}), "rollout.pause_ms"),
        (gate(json!({"for_ms": 1, "within_ms": 0})), "rollout.health_gate.within_ms"),
    ] {
        let body = json!({"script": "deploy", "target": ids(&agents), "rollout": rollout});
        let refused = world.api.post("/api/jobs", body).await.expect_problem(422, "invalid_field");
        let detail = refused["detail"].as_str().unwrap_or_default();
        assert!(detail.starts_with(&format!("`{field}` ")), "{rollout}: {detail}");
    }
    let unknown = json!({"script": "deploy", "target": ids(&agents), "rollout": {"wave_size": 1, "waves": 3}});
    world.api.post("/api/jobs", unknown).await.expect_problem(422, "invalid_body");
    assert_eq!(world.api.get("/api/jobs").await.expect(200)["items"], json!([]));
    let plain = json!({"script": "deploy", "target": ids(&agents)});
    let plain = world.api.post("/api/jobs", plain).await.expect(202);
    let plain = plain["id"].as_str().expect("an id");
    for word in ["pause", "resume", "abort"] {
        let refused = world.api.post(&format!("/api/jobs/{plain}/{word}"), json!({})).await;
        refused.expect_problem(409, "no_rollout");
    }
    let nobody = "/api/jobs/01980000-0000-7000-8000-000000000000/pause";
    world.api.post(nobody, json!({})).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_rollout_is_looked_after_from_the_command_line() {
    let world = World::on_sqlite().await;
    let cli = Cli::new(&world.site);
    let login = ["login", "--server", &world.server.url()];
    cli.run_with_input(&login, world.api.key()).await.expect(0);
    let _agents = reals(&world, 3, "exit \"$N\"").await;
    let waves = ["run", "--on", "all", "--wave", "1", "--pause", "10ms", "--max-failures", "0"];
    let good = cli.run(&[&waves[..], &["deploy", "N=0"]].concat()).await;
    assert_eq!(good.expect(0).trim(), "3 succeeded");
    let bad = cli.run(&[&waves[..], &["deploy", "N=1"]].concat()).await;
    assert_eq!(bad.expect(1).trim(), "1 failed, 2 queued");
    assert!(bad.stderr.contains("wave 1/3: 1 executions failed and 0 may"), "{}", bad.stderr);
    let jobs = world.api.get("/api/jobs").await.expect(200);
    let id = jobs["items"][0]["id"].as_str().expect("an id");
    cli.run(&["jobs", "resume", id]).await.expect(0);
    let second = |job: &Value| job["state"] == "halted" && job["counts"]["failed"] == 2;
    job_that(&world, id, "halted again", second).await;
    cli.run(&["jobs", "abort", id]).await.expect(0);
    in_state(&world, id, "aborted").await;
    let refused = cli.run(&["jobs", "pause", id]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("aborted"), "{}", refused.stderr);
    cli.run(&["run", "real-0", "deploy", "N=0", "--wave", "1"]).await.expect(2);
}
