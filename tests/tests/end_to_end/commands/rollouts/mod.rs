//! One request, many agents, wave after wave.

mod absence;
mod steering;

use muster_tests::{
    ALL, Agent, AgentOptions, FakeAgent, Fixture, JsonFields as _, Script, eventually_shown,
    on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    waves_run_in_order_and_deliver_secrets,
    rollout_halts_when_failures_exceed_the_limit_including_those_in_flight,
);

/// Basic agents, in the order in which jobs take them, whose answers the test decides.
async fn fakes(fixture: &Fixture, count: usize) -> Vec<(FakeAgent, String)> {
    let fields = json!({"permissions": ALL, "max_agents": count, "trusts_holders": true});
    let (key_id, key) = fixture.api.agent_key(fields).await;
    let mut agents = Vec::new();
    for index in 0..count {
        let name = format!("fake-{index}");
        let agent = FakeAgent::registered(&fixture.server.address(), &key, &name).await;
        let known = fixture.agents_of(&key_id).await;
        let known = known.iter().find(|known| known["hostname"] == name).expect("enrolled");
        agents.push((agent, known.id().to_owned()));
    }
    agents
}

fn ids(agents: &[(FakeAgent, String)]) -> Value {
    json!({"ids": agents.iter().map(|(_, id)| id).collect::<Vec<_>>()})
}

/// The agent receives the command of a job, and answers it.
async fn answer(agent: &mut FakeAgent, is_success: bool) {
    let command = agent.expect("command").await;
    reply(agent, &command, is_success).await;
}

async fn reply(agent: &mut FakeAgent, command: &Value, is_success: bool) {
    let id = &command["command_id"];
    agent.send(json!({"type": "response", "command_id": id, "success": is_success})).await;
}

async fn submit(fixture: &Fixture, target: Value, rollout: Value) -> String {
    let body = json!({"script": "deploy", "target": target, "rollout": rollout});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    job.id().to_owned()
}

/// The job, once it is in this condition.
async fn job_that(fixture: &Fixture, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually_shown(&format!("the job {what}"), async || {
        let path = format!("/api/jobs/{id}");
        let job = fixture.api.get(&path).await.expect(200);
        if is(&job) { Ok(job) } else { Err(job) }
    })
    .await
}

async fn in_state(fixture: &Fixture, id: &str, state: &str) -> Value {
    job_that(fixture, id, &format!("is {state}"), |job| job["state"] == state).await
}

async fn steer(fixture: &Fixture, id: &str, word: &str) -> Value {
    fixture.api.post(&format!("/api/jobs/{id}/{word}"), json!({})).await.expect(202)
}

/// Executions in the order of their waves and agents.
async fn executions(fixture: &Fixture, id: &str) -> Vec<Value> {
    let path = format!("/api/jobs/{id}/executions?limit=100");
    let page = fixture.api.get(&path).await.expect(200);
    let mut items = page["items"].as_array().cloned().expect("a list");
    items.sort_by_key(|run| (run["wave"].as_i64(), run["id"].to_string()));
    items
}

async fn audited(fixture: &Fixture, action: &str) -> usize {
    let page = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let items = page.list("items");
    items.iter().filter(|entry| entry["action"] == action).count()
}

/// Real agents that allow `deploy`.
async fn reals(fixture: &Fixture, count: usize, script: &str) -> Vec<(Agent, String)> {
    let mut agents = Vec::new();
    for index in 0..count {
        let scripts = vec![Script::new("deploy", script).taking(["DIR", "N", "TOKEN"])];
        let options = AgentOptions { scripts, ..AgentOptions::named(&format!("real-{index}")) };
        agents.push(fixture.agent(options).await);
    }
    agents
}

async fn waves_run_in_order_and_deliver_secrets(fixture: Fixture) {
    let agents = reals(&fixture, 3, "echo \"$TOKEN\"; test -n \"$TOKEN\"").await;
    let ids: Vec<_> = agents.iter().map(|(_, id)| id).collect();
    let body = json!({"script": "deploy", "secret_parameters": {"TOKEN": "hunter2-hunter2"},
        "target": {"ids": ids}, "expires_in_ms": 60_000, "rollout": {"wave_size": "34%"}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    let id = job.id();
    assert_eq!(job["rollout"]["wave_count"], 2, "{job}");
    let job = in_state(&fixture, id, "succeeded").await;
    assert_eq!((&job["rollout"]["wave"], &job["rollout"]["held"]), (&json!(2), &json!(0)));
    let runs = executions(&fixture, id).await;
    let waves: Vec<_> = runs.iter().map(|run| run["wave"].as_i64()).collect();
    assert_eq!(waves, [Some(1), Some(1), Some(2)]);
    for first in &runs[..2] {
        assert!(
            first["finished_at"].as_str() <= runs[2]["delivered_at"].as_str(),
            "wave 2 began before wave 1 had ended: {runs:?}"
        );
    }
    // Its expiry counts from its release.
    assert!(runs[2]["expires_at"].as_str() > runs[0]["expires_at"].as_str());
    for run in &runs {
        let output = fixture.api.output(run.id()).await;
        assert_eq!(String::from_utf8_lossy(&output), "***\n");
    }
}

async fn rollout_halts_when_failures_exceed_the_limit_including_those_in_flight(fixture: Fixture) {
    let mut agents = fakes(&fixture, 6).await;
    // 17 % of 6 is one tolerated failure: at most two executions are in flight.
    let rollout = json!({"wave_size": 4, "max_failures": "17%"});
    let id = submit(&fixture, ids(&agents), rollout.clone()).await;
    let job = in_state(&fixture, &id, "running").await;
    assert_eq!((&job["rollout"]["held"], &job["rollout"]["wave_count"]), (&json!(4), &json!(2)));
    answer(&mut agents[0].0, true).await;
    // A success frees a slot for one more.
    job_that(&fixture, &id, "lets a third go", |job| job["rollout"]["held"] == 3).await;
    answer(&mut agents[1].0, false).await;
    // A failure does not: the one in flight may fail as well.
    let third = agents[2].0.expect("command").await;
    let job = fixture.api.get(&format!("/api/jobs/{id}")).await.expect(200);
    assert_eq!((&job["state"], &job["rollout"]["held"]), (&json!("running"), &json!(3)));
    reply(&mut agents[2].0, &third, false).await;
    let job = in_state(&fixture, &id, "halted").await;
    assert!(
        job["halt_reason"]
            .as_str()
            .is_some_and(|text| text.starts_with("Halted: 2 failed, the limit is 1")),
        "{job}"
    );
    assert_eq!(job["counts"], json!({"succeeded": 1, "failed": 2, "queued": 3}));
    assert_eq!(job["finished_at"], Value::Null);
    assert_eq!(audited(&fixture, "job.halt").await, 1);
    let refused = fixture.api.post(&format!("/api/jobs/{id}/pause"), json!({})).await;
    refused.expect_problem(409, "wrong_state");
    // Earlier failures are ignored.
    let job = steer(&fixture, &id, "resume").await;
    assert_eq!((&job["state"], &job["halt_reason"]), (&json!("running"), &Value::Null));
    for (agent, _) in &mut agents[3..] {
        answer(agent, true).await;
    }
    let job = in_state(&fixture, &id, "failed").await;
    assert_eq!(job["counts"], json!({"succeeded": 4, "failed": 2}));
    let refused = fixture.api.post(&format!("/api/jobs/{id}/resume"), json!({})).await;
    refused.expect_problem(409, "wrong_state");
}

#[tokio::test]
async fn invalid_rollout_is_refused_naming_the_field() {
    let fixture = Fixture::on_sqlite().await;
    let agents = fakes(&fixture, 1).await;
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
        let refused =
            fixture.api.post("/api/jobs", body).await.expect_problem(422, "invalid_field");
        let detail = refused["detail"].as_str().unwrap_or_default();
        assert!(detail.starts_with(&format!("`{field}` ")), "{rollout}: {detail}");
    }
    let unknown = json!({"script": "deploy", "target": ids(&agents), "rollout": {"wave_size": 1, "waves": 3}});
    fixture.api.post("/api/jobs", unknown).await.expect_problem(422, "invalid_body");
    assert_eq!(fixture.api.get("/api/jobs").await.expect(200)["items"], json!([]));
    let plain = json!({"script": "deploy", "target": ids(&agents)});
    let plain = fixture.api.post("/api/jobs", plain).await.expect(202);
    let plain = plain.id();
    for word in ["pause", "resume", "abort"] {
        let refused = fixture.api.post(&format!("/api/jobs/{plain}/{word}"), json!({})).await;
        refused.expect_problem(409, "no_rollout");
    }
    let nobody = "/api/jobs/01980000-0000-7000-8000-000000000000/pause";
    fixture.api.post(nobody, json!({})).await.expect_problem(404, "not_found");
}
